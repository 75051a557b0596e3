//! The confusion matrix.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{FAINT, FONT, INK, PlotError, shortened};

/// Pixels for the names of the classes beside and above the matrix.
const NAMES: i32 = 130;
const TITLE: i32 = 62;
const MARGIN: i32 = 24;
/// The longest name that is shown whole.
const MAX_NAME: usize = 16;
/// With more classes than this the numbers would not fit into their cells.
const MAX_NUMBERED: usize = 24;
/// With more classes than this the names would not be legible either.
const MAX_NAMED: usize = 60;
/// The darkest cell, where all of a class got one label.
const DARK: (f64, f64, f64) = (8.0, 48.0, 107.0);

/// Draws a matrix of counts, classes as rows and labels as columns; a cell's colour is its share of the row.
pub fn draw(classes: &[String], matrix: &[Vec<u64>], about: &str) -> Result<String, PlotError> {
    let count = classes.len().max(1) as i32;
    let cell = (780 / count).clamp(6, 64);
    let side = cell * count;
    let (width, height) = (MARGIN + NAMES + side + MARGIN, TITLE + NAMES + side + MARGIN + 26);
    let (left, top) = (MARGIN + NAMES, TITLE + NAMES);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (width.max(560) as u32, height as u32)).into_drawing_area();
        root.fill(&WHITE)?;
        let style = |size: i32| (FONT, size).into_font().color(&INK);
        let at = |style: TextStyle<'static>, h, v| style.pos(Pos::new(h, v));
        let (all, right) = matrix.iter().enumerate().fold((0, 0), |(all, right), (class, row)| {
            (all + row.iter().sum::<u64>(), right + row.get(class).copied().unwrap_or(0))
        });
        let percent = right as f64 / all.max(1) as f64 * 100.0;
        root.draw(&Text::new("Confusion matrix", (MARGIN, 16), style(22)))?;
        let text = format!("{}: {right} of {all} right ({percent:.1} %)", shortened(about, 60));
        root.draw(&Text::new(text, (MARGIN, 44), (FONT, 14).into_font().color(&FAINT)))?;

        for (class, row) in matrix.iter().enumerate() {
            let total: u64 = row.iter().sum();
            for (label, value) in row.iter().enumerate() {
                let share = *value as f64 / total.max(1) as f64;
                let (x, y) = (left + label as i32 * cell, top + class as i32 * cell);
                root.draw(&Rectangle::new([(x, y), (x + cell, y + cell)], shade(share).filled()))?;
                if classes.len() <= MAX_NUMBERED && *value > 0 {
                    let ink = if share > 0.5 { WHITE } else { INK };
                    let size = (cell * 3 / 10).clamp(9, 18);
                    let number = at((FONT, size).into_font().color(&ink), HPos::Center, VPos::Center);
                    root.draw(&Text::new(value.to_string(), (x + cell / 2, y + cell / 2), number))?;
                }
            }
        }
        root.draw(&Rectangle::new([(left, top), (left + side, top + side)], INK.mix(0.5)))?;
        let corner = at((FONT, 13).into_font().color(&FAINT), HPos::Right, VPos::Bottom);
        root.draw(&Text::new("class ↓  label →", (left - 8, top - 10), corner))?;
        if classes.len() <= MAX_NAMED {
            let size = (cell * 3 / 4).clamp(9, 15);
            for (class, name) in classes.iter().enumerate() {
                let name = shortened(name, MAX_NAME);
                let middle = class as i32 * cell + cell / 2;
                let row = at(style(size), HPos::Right, VPos::Center);
                root.draw(&Text::new(name.clone(), (left - 8, top + middle), row))?;
                let column = (FONT, size).into_font().transform(FontTransform::Rotate270).color(&INK);
                root.draw(&Text::new(name, (left + middle, top - 8), at(column, HPos::Left, VPos::Center)))?;
            }
        }
        let legend =
            "Rows: the class. Columns: the label it got. Numbers: pictures. Colour: share of the row, 0 to 100 %.";
        root.draw(&Text::new(legend, (MARGIN, height - 26), (FONT, 13).into_font().color(&FAINT)))?;
        root.present()?;
    }
    Ok(svg)
}

/// From white to dark blue. Small shares are lifted, as they are what is looked for.
fn shade(share: f64) -> RGBColor {
    let depth = share.sqrt();
    let mix = |dark: f64| (255.0 + (dark - 255.0) * depth).round() as u8;
    RGBColor(mix(DARK.0), mix(DARK.1), mix(DARK.2))
}
