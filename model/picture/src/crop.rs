//! The rectangle of a picture that a model sees.

use crate::{Input, Sides, WHOLE};

/// A part of a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rectangle {
    /// The leftmost column.
    pub left: usize,
    /// The highest row.
    pub top: usize,
    /// Columns, 1 or more.
    pub columns: usize,
    /// Rows, 1 or more.
    pub rows: usize,
}

/// The largest rectangle in the centre that has the model's aspect, or the share of it that is the model's `crop`; of two
/// centres the upper or left one.
#[must_use]
pub fn kept(sides: Sides, input: Input) -> Rectangle {
    let (columns, rows) = (usize::from(sides.columns), usize::from(sides.rows));
    let (w, h) = if columns * input.height > rows * input.width {
        ((rows * input.width / input.height).max(1), rows)
    } else {
        (columns, (columns * input.height / input.width).max(1))
    };
    let [w, h] = [w, h].map(|side| (side * input.crop / WHOLE).max(1));
    Rectangle { left: (columns - w) / 2, top: (rows - h) / 2, columns: w, rows: h }
}
