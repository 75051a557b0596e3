//! Cb and Cr at the picture's full size: libjpeg's "fancy upsampling" (jdsample.c, `h2v1_fancy_upsample` and
//! `h2v2_fancy_upsample`), three quarters of the nearer and one quarter of the further sample.

use crate::markers::Header;
use crate::plane::Plane;

/// Makes full columns out of a plane of Cb or Cr.
pub(crate) struct Chroma<'a> {
    plane: &'a Plane,
    /// Columns and rows of the plane that count: what is past them only fills up MCUs.
    columns: usize,
    rows: usize,
    /// How many columns and rows share a sample.
    shared: (usize, usize),
    /// Three times a sample and once its neighbour in the other column, one row more at each end.
    sums: Vec<u16>,
    out: Vec<u8>,
}

impl<'a> Chroma<'a> {
    pub(crate) fn new(plane: &'a Plane, header: &Header<'_>) -> Self {
        let (h, v) = header.shared;
        Self {
            plane,
            columns: usize::from(header.sides.columns).div_ceil(h),
            rows: usize::from(header.sides.rows).div_ceil(v),
            shared: header.shared,
            sums: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Samples of a column of the picture, from row `top` on.
    pub(crate) fn column(&mut self, column: usize, top: usize, rows: usize) -> &[u8] {
        let (h, v) = self.shared;
        let near = self.plane.column(column / h);
        // The rows of the plane that are needed.
        let (first, last) = (top / v, (top + rows - 1) / v);
        let out = &mut self.out;
        out.resize(v * (last + 1 - first), 0);
        if h == 1 {
            return &near[top..][..rows];
        }
        if self.columns <= 2 {
            for (pair, sample) in out.chunks_exact_mut(v).zip(&near[first..]) {
                pair.fill(*sample);
            }
            return &out[top - v * first..][..rows];
        }
        let right = column % 2 == 1;
        let other = if right { (column / 2 + 1).min(self.columns - 1) } else { (column / 2).saturating_sub(1) };
        let far = self.plane.column(other);
        if v == 1 {
            let round = if right { 2 } else { 1 };
            for ((out, near), far) in out.iter_mut().zip(&near[first..]).zip(&far[first..]) {
                *out = ((3 * u16::from(*near) + u16::from(*far) + round) >> 2) as u8;
            }
            return out;
        }
        // libjpeg adds up along columns first and along rows then; nothing is rounded between, so the order is free.
        let sum = |row: usize| 3 * u16::from(near[row]) + u16::from(far[row]);
        let sums = &mut self.sums;
        sums.clear();
        sums.push(sum(first.saturating_sub(1)));
        let pairs = near[first..=last].iter().zip(&far[first..=last]);
        sums.extend(pairs.map(|(near, far)| 3 * u16::from(*near) + u16::from(*far)));
        sums.push(sum((last + 1).min(self.rows - 1)));
        let round = if right { 7 } else { 8 };
        let count = last + 1 - first;
        let [above, at, below] = [0, 1, 2].map(|from| &sums[from..][..count]);
        for (((pair, above), at), below) in out.as_chunks_mut::<2>().0.iter_mut().zip(above).zip(at).zip(below) {
            *pair = [((3 * at + above + round) >> 4) as u8, ((3 * at + below + round) >> 4) as u8];
        }
        &out[top - 2 * first..][..rows]
    }
}
