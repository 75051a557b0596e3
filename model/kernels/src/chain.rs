//! Steps that run together, some rows at a time, so that what one writes is still in a cache when the next reads it.

use std::ops::Range;

/// Activations of more bytes an image are worth it: with what else is read, they do not stay in a second-level cache. Tests run
/// every step that can be so.
const LARGE: usize = if cfg!(test) { 0 } else { 300 << 10 };
/// About so many bytes are written before the next step reads them.
const STRIP: usize = if cfg!(test) { 200 } else { 96 << 10 };

/// Which rows of its input a step reads for a row of its output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reads {
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    /// Rows of padding above.
    pub(crate) above: usize,
}

impl Reads {
    /// How many of `height` rows of the output can be made when `done` of `all` rows of the input are there: a multiple of
    /// `unit`, or all of them.
    pub(crate) fn ready(&self, done: usize, all: usize, height: usize, unit: usize) -> usize {
        if done == all {
            return height;
        }
        let rows = (done + self.above).checked_sub(self.kernel).map_or(0, |more| more / self.stride + 1);
        rows.min(height) / unit * unit
    }
}

/// What a chain needs to know of a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    /// The buffers that it reads and writes.
    pub(crate) from: [usize; 2],
    pub(crate) to: Option<usize>,
    /// None if it must come after all of what it reads.
    pub(crate) reads: Option<Reads>,
    /// Bytes of an image, and of a row, of what it writes.
    pub(crate) image: usize,
    pub(crate) row: usize,
    /// The rows that it makes together.
    pub(crate) unit: usize,
}

/// Steps that run together, and how many rows the first makes at once.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    pub(crate) steps: Range<usize>,
    pub(crate) rows: usize,
}

/// Divides steps into chains. In a chain every step reads what the one before it writes, and none writes where an earlier one
/// still reads or has written.
pub(crate) fn chains(links: &[Link]) -> Vec<Chain> {
    let mut chains = Vec::new();
    let mut first = 0;
    while first < links.len() {
        let mut end = first + 1;
        while end < links.len() && follows(&links[first..end], &links[end]) {
            end += 1;
        }
        let Link { row, unit, .. } = links[first];
        chains.push(Chain { steps: first..end, rows: (STRIP / row.max(1)).max(1).next_multiple_of(unit) });
        first = end;
    }
    chains
}

fn follows(chain: &[Link], next: &Link) -> bool {
    let [.., last] = chain else { return false };
    let (Some(between), Some(to), Some(_)) = (last.to, next.to, next.reads) else { return false };
    let others = next.from.iter().filter(|from| **from != between);
    let earlier = &chain[..chain.len() - 1];
    last.image > LARGE
        && next.from.contains(&between)
        && others.clone().all(|other| earlier.iter().all(|link| link.to != Some(*other)))
        && chain.iter().all(|link| link.to != Some(to) && !link.from.contains(&to))
}
