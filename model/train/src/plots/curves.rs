//! Loss and accuracy over the epochs.

use plotters::prelude::*;

use super::{BLUE, FAINT, FONT, INK, PlotError, VERMILION};
use crate::train::EpochMetrics;

const WIDTH: u32 = 1120;
const HEIGHT: u32 = 470;
/// With more epochs than this the points would hide the lines.
const MAX_POINTS: usize = 40;

/// A panel: what is drawn of every epoch.
struct Panel {
    caption: &'static str,
    unit: &'static str,
    training: fn(&EpochMetrics) -> f64,
    validation: fn(&EpochMetrics) -> f64,
    /// The highest value there can be.
    most: f64,
    legend: SeriesLabelPosition,
}

/// Draws the curves, side by side.
pub fn draw(epochs: &[EpochMetrics]) -> Result<String, PlotError> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
        root.fill(&WHITE)?;
        let (panels, note) = root.split_vertically(HEIGHT - 36);
        let (left, right) = panels.split_horizontally(WIDTH / 2);
        let loss = Panel {
            caption: "Loss",
            unit: "cross-entropy a picture (nats)",
            training: |epoch| epoch.loss,
            validation: |epoch| epoch.validation_loss,
            most: f64::INFINITY,
            legend: SeriesLabelPosition::UpperRight,
        };
        let accuracy = Panel {
            caption: "Accuracy",
            unit: "right labels (%)",
            training: |epoch| epoch.accuracy * 100.0,
            validation: |epoch| epoch.validation_accuracy * 100.0,
            most: 100.0,
            legend: SeriesLabelPosition::LowerRight,
        };
        panel(&left, epochs, &loss)?;
        panel(&right, epochs, &accuracy)?;
        let about = "Training: mean over the epoch, on changed pictures and with smoothed labels where the recipe says so. \
                     Kept back: after the epoch, on plain pictures.";
        note.draw(&Text::new(about, (24, 2), (FONT, 13).into_font().color(&FAINT)))?;
        root.present()?;
    }
    Ok(svg)
}

fn panel<'a>(
    area: &DrawingArea<SVGBackend<'a>, plotters::coord::Shift>,
    epochs: &[EpochMetrics],
    panel: &Panel,
) -> Result<(), PlotError> {
    let values = epochs.iter().flat_map(|epoch| [(panel.training)(epoch), (panel.validation)(epoch)]);
    let (mut low, mut high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low > high {
        (low, high) = (0.0, 1.0);
    }
    let room = ((high - low) * 0.06).max(0.01);
    let (low, high) = ((low - room).max(0.0), (high + room).min(panel.most));
    let last = epochs.last().map_or(1, |epoch| epoch.epoch).max(2) as u32;
    let mut chart = ChartBuilder::on(area)
        .caption(panel.caption, (FONT, 22).into_font().color(&INK))
        .margin(14)
        .margin_right(24)
        .x_label_area_size(46)
        .y_label_area_size(66)
        .build_cartesian_2d(1..last, low..high)?;
    let digits = if high - low < 5.0 { 2 } else { 0 };
    chart
        .configure_mesh()
        .x_desc("epoch")
        .y_desc(panel.unit)
        .x_labels(10)
        .y_labels(8)
        .y_label_formatter(&|value| format!("{value:.digits$}"))
        .label_style((FONT, 14).into_font().color(&INK))
        .axis_desc_style((FONT, 15).into_font().color(&INK))
        .bold_line_style(BLACK.mix(0.12))
        .light_line_style(TRANSPARENT)
        .axis_style(INK.mix(0.6))
        .draw()?;
    for (name, value, colour) in [("training", panel.training, BLUE), ("kept back", panel.validation, VERMILION)] {
        let points: Vec<(u32, f64)> = epochs
            .iter()
            .map(|epoch| (epoch.epoch as u32, value(epoch)))
            .filter(|(_, value)| value.is_finite())
            .collect();
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], colour.stroke_width(3)));
        if points.len() <= MAX_POINTS {
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
        }
    }
    // The epoch whose weights are kept.
    if let Some(best) = epochs.iter().rev().find(|epoch| epoch.best) {
        let point = (best.epoch as u32, (panel.validation)(best));
        let name = format!("best: epoch {}", best.epoch);
        chart
            .draw_series([Circle::new(point, 7, INK.stroke_width(2))])?
            .label(name)
            .legend(|(x, y)| Circle::new((x + 11, y), 6, INK.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(panel.legend.clone())
        .margin(12)
        .legend_area_size(30)
        .label_font((FONT, 15).into_font().color(&INK))
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.2))
        .draw()?;
    Ok(())
}
