//! How long files take to become pixels, for `scripts/bench picture`: `rate SIDE PIXELS FILE…` writes all pixels, of a model of
//! 3 channels and that side, into the file PIXELS; then reads numbers from stdin, a line each, decodes all files so many
//! times, and answers with the nanoseconds that it took.

use std::env;
use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::io::{self, BufRead as _, Write as _};
use std::time::Instant;

use ocelli_picture::{Input, WHOLE, pixels};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [side, output, names @ ..] = arguments.as_slice() else {
        return Err("expected SIDE, PIXELS and one or more FILEs".into());
    };
    let side = side.parse()?;
    let input = Input { channels: 3, height: side, width: side, crop: WHOLE };
    let files = names.iter().map(fs::read).collect::<Result<Vec<_>, _>>()?;
    let all = files.iter().map(|file| pixels(file, input)).collect::<Result<Vec<_>, _>>()?;
    fs::write(output, all.concat())?;
    for line in io::stdin().lock().lines() {
        let rounds: u32 = line?.trim().parse()?;
        let begin = Instant::now();
        for _ in 0..rounds {
            for file in &files {
                black_box(pixels(black_box(file), input)?);
            }
        }
        writeln!(io::stdout(), "{}", begin.elapsed().as_nanos())?;
    }
    Ok(())
}
