//! A sheet of the most confident mistakes.

use std::fmt::Write as _;
use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{ExtendedColorType, ImageEncoder as _};
use plotters::prelude::*;

use super::{BLUE, FAINT, FONT, INK, PlotError, VERMILION, shortened};
use crate::dataset::Dataset;
use crate::evaluate::Answer;

const COLUMNS: usize = 6;
const MAX_MISTAKES: usize = 24;
/// A picture's longer side, and what its place takes with the text, in pixels.
const PICTURE: i32 = 128;
const PLACE: (i32, i32) = (172, 208);
const MARGIN: i32 = 24;
const TITLE: i32 = 78;
const MAX_NAME: usize = 16;

/// Draws the mistakes whose labels were given with the highest probability, the surest first.
pub fn draw(classes: &[String], answers: &[Answer], data: &Dataset, about: &str) -> Result<String, PlotError> {
    let mut mistakes: Vec<usize> = (0..answers.len()).filter(|index| answers[*index].is_mistake()).collect();
    // A stable sort: of equally sure mistakes the first comes first.
    mistakes.sort_by(|a, b| answers[*b].probability.total_cmp(&answers[*a].probability));
    let shown = &mistakes[..mistakes.len().min(MAX_MISTAKES)];
    let rows = shown.len().div_ceil(COLUMNS).max(1) as i32;
    let width = 2 * MARGIN + COLUMNS as i32 * PLACE.0;
    let height = TITLE + rows * PLACE.1 + MARGIN;
    let mut svg = String::new();
    let mut pictures = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (width as u32, height as u32)).into_drawing_area();
        root.fill(&WHITE)?;
        let style = |size: i32, colour: &RGBColor| (FONT, size).into_font().color(colour);
        root.draw(&Text::new("The most confident mistakes", (MARGIN, 16), style(22, &INK)))?;
        let text = format!("{}: {} mistakes in {} pictures", shortened(about, 60), mistakes.len(), answers.len());
        root.draw(&Text::new(text, (MARGIN, 44), style(14, &FAINT)))?;
        for (place, index) in shown.iter().enumerate() {
            let (column, row) = (place % COLUMNS, place / COLUMNS);
            let (x, y) = (MARGIN + column as i32 * PLACE.0, TITLE + row as i32 * PLACE.1);
            let Answer { label, given, probability } = answers[*index];
            let given = format!("said {} {:.1} %", shortened(&classes[given], MAX_NAME), probability * 100.0);
            let truth = format!("is {}", shortened(&classes[label], MAX_NAME));
            let name = data.name(*index).rsplit('/').next().unwrap_or_default();
            root.draw(&Text::new(given, (x, y + PICTURE + 6), style(15, &VERMILION)))?;
            root.draw(&Text::new(truth, (x, y + PICTURE + 26), style(15, &BLUE)))?;
            root.draw(&Text::new(shortened(name, 24), (x, y + PICTURE + 46), style(11, &FAINT)))?;
            write!(pictures, "{}", embedded(data, *index, x, y)?).expect("a string can be written");
        }
        root.present()?;
    }
    // The backend has pictures only as one rectangle a pixel, so they are added to its file.
    let end = svg.rfind("</svg>").ok_or_else(|| PlotError::Draw("the file has no end".into()))?;
    svg.insert_str(end, &pictures);
    Ok(svg)
}

/// A picture as an element of SVG, its pixels unsmoothed.
fn embedded(data: &Dataset, index: usize, x: i32, y: i32) -> Result<String, PlotError> {
    let (shape, pixels) = (data.shape(), data.pixels(index));
    let plane = shape.height * shape.width;
    let (colour, bytes) = if shape.channels == 3 {
        let interleaved = (0..plane).flat_map(|place| [0, 1, 2].map(|channel| pixels[channel * plane + place]));
        (ExtendedColorType::Rgb8, interleaved.collect())
    } else {
        (ExtendedColorType::L8, pixels[..plane].to_vec())
    };
    let mut png = Cursor::new(Vec::new());
    let encoder = image::codecs::png::PngEncoder::new(&mut png);
    encoder.write_image(&bytes, shape.width as u32, shape.height as u32, colour)?;
    let longer = shape.width.max(shape.height) as i32;
    let (width, height) = (PICTURE * shape.width as i32 / longer, PICTURE * shape.height as i32 / longer);
    Ok(format!(
        "<image x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" preserveAspectRatio=\"none\" \
         style=\"image-rendering:pixelated\" href=\"data:image/png;base64,{}\"/>\n",
        STANDARD.encode(png.into_inner())
    ))
}
