//! The study's figures as SVG.

use plotters::coord::Shift;
use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::*;

use crate::experiment::Row;

/// A font that every system has under some name.
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(40, 44, 52);
/// Okabe and Ito's colours, which people with any colour vision tell apart.
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167)];

const WIDTH: u32 = 720;
const HEIGHT: u32 = 440;

/// A figure could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("the figure cannot be drawn: {0}")]
pub struct PlotError(String);

impl<E: std::error::Error + Send + std::marker::Sync> From<DrawingAreaErrorKind<E>> for PlotError {
    fn from(error: DrawingAreaErrorKind<E>) -> Self {
        Self(error.to_string())
    }
}

/// One line of a chart.
struct Series {
    name: String,
    points: Vec<(f64, f64)>,
}

/// The figures by file name.
///
/// # Errors
/// Where one cannot be drawn.
pub fn draw(rows: &[Row]) -> Result<Vec<(&'static str, String)>, PlotError> {
    let of = |experiment: &'static str| rows.iter().filter(move |row| row.experiment == experiment);
    let kilobytes = |row: &Row| row.announcement_bytes as f64 / 1e3;
    let mut spacings: Vec<u64> = of("size and spacing").map(|row| row.spacing).collect();
    spacings.sort_unstable();
    spacings.dedup();
    let stale = spacings.iter().map(|spacing| Series {
        name: format!("a block every {spacing} s"),
        points: of("size and spacing")
            .filter(|row| row.spacing == *spacing)
            .filter_map(|row| Some((kilobytes(row), row.report.waits?.stale_percent(row.spacing))))
            .collect(),
    });
    let longest = spacings.last().copied().unwrap_or_default();
    let delays = [50, 95, 99].map(|percent| Series {
        name: format!("p{percent}"),
        points: of("size and spacing")
            .filter(|row| row.spacing == longest)
            .filter_map(|row| {
                let times = row.report.validated_ms?;
                let time =
                    [(50, times.p50), (95, times.p95), (99, times.p99)].into_iter().find(|(of, _)| *of == percent)?.1;
                Some((kilobytes(row), time as f64 / 1e3))
            })
            .collect(),
    });
    let share = |row: &Row| row.dishonest_hash_percent as f64;
    let selfish = [
        Series {
            name: "measured".into(),
            points: of("selfish mining").map(|row| (share(row), row.report.blocks.dishonest_percent())).collect(),
        },
        Series {
            name: "honest mining".into(),
            points: of("selfish mining").map(|row| (share(row), share(row))).collect(),
        },
        Series {
            name: "theory, nobody follows it in a race".into(),
            points: of("selfish mining")
                .map(|row| (share(row), 100.0 * selfish_revenue(share(row) / 100.0, 0.0)))
                .collect(),
        },
        Series {
            name: "theory, half follow it".into(),
            points: of("selfish mining")
                .map(|row| (share(row), 100.0 * selfish_revenue(share(row) / 100.0, 0.5)))
                .collect(),
        },
    ];
    let sizes = "announcement of a full block (kB)";
    let charts = [
        ("stale.svg", "Stale blocks to expect", sizes, "of the honest miners' blocks (%)", stale.collect::<Vec<_>>()),
        ("propagation.svg", "From a block's finding to its validation elsewhere", sizes, "seconds", delays.into()),
        ("selfish.svg", "A selfish miner's part of the chain", "its hash rate (%)", "its blocks (%)", selfish.into()),
    ];
    // Of what was not run there is nothing to draw.
    let charts = charts.into_iter().filter(|(.., series)| series.iter().any(|series| !series.points.is_empty()));
    charts.map(|(file, caption, x, y, series)| Ok((file, chart(caption, x, y, &series)?))).collect()
}

/// Revenue of a selfish miner with a part `alpha` of the hash rate, where `gamma` of the others mine on its block in a race
/// (Eyal and Sirer 2014, equation 8).
pub fn selfish_revenue(alpha: f64, gamma: f64) -> f64 {
    let above = alpha * (1.0 - alpha).powi(2) * (4.0 * alpha + gamma * (1.0 - 2.0 * alpha)) - alpha.powi(3);
    above / (1.0 - alpha * (1.0 + (2.0 - alpha) * alpha))
}

fn chart(caption: &str, x: &str, y: &str, series: &[Series]) -> Result<String, PlotError> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
        root.fill(&WHITE)?;
        lines(&root, caption, x, y, series)?;
        root.present()?;
    }
    Ok(svg)
}

fn lines(
    root: &DrawingArea<SVGBackend<'_>, Shift>,
    caption: &str,
    x: &str,
    y: &str,
    series: &[Series],
) -> Result<(), PlotError> {
    let points = || series.iter().flat_map(|series| &series.points);
    let right = points().map(|point| point.0).fold(1.0, f64::max) * 1.03;
    let top = points().map(|point| point.1).fold(1.0, f64::max) * 1.08;
    let mut chart = ChartBuilder::on(root)
        .caption(caption, (FONT, 20).into_font().color(&INK))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..right, 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc(x)
        .y_desc(y)
        .label_style((FONT, 13).into_font().color(&INK))
        .axis_desc_style((FONT, 14).into_font().color(&INK))
        .bold_line_style(BLACK.mix(0.12))
        .light_line_style(TRANSPARENT)
        .axis_style(INK.mix(0.6))
        .draw()?;
    for (series, colour) in series.iter().zip(COLOURS) {
        chart
            .draw_series(LineSeries::new(series.points.iter().copied(), colour.stroke_width(2)))?
            .label(&series.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], colour.stroke_width(3)));
        chart.draw_series(series.points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .margin(12)
        .legend_area_size(30)
        .label_font((FONT, 14).into_font().color(&INK))
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.2))
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selfish_mining_pays_from_a_third_or_a_quarter_on() {
        // The thresholds of the paper: (1 - gamma) / (3 - 2 gamma).
        for (gamma, threshold) in [(0.0, 1.0 / 3.0), (0.5, 0.25), (0.999, 0.001)] {
            assert!((selfish_revenue(threshold, gamma) - threshold).abs() < 1e-3, "{gamma}");
            assert!(selfish_revenue(threshold + 0.05, gamma) > threshold + 0.05);
        }
    }
}
