//! Drawings of a training or an evaluation, as SVG files: the curves over the epochs, the confusion matrix, and the most
//! confident mistakes.
//!
//! Colours are those of M. Okabe and K. Ito, "Color Universal Design", 2008, which people with any colour vision can tell
//! apart; the confusion matrix goes from light to dark in one hue.

mod confusion;
mod curves;
mod mistakes;

use std::io;

use plotters::drawing::DrawingAreaErrorKind;
use plotters::style::RGBColor;

use crate::dataset::{Dataset, DatasetError};
use crate::evaluate::{Answer, Evaluation, confusion_matrix};
use crate::train::{EpochMetrics, FloatNetwork};

/// How many pictures a float network answers at once.
const BATCH: usize = 250;

const BLUE: RGBColor = RGBColor(0, 114, 178);
const VERMILION: RGBColor = RGBColor(213, 94, 0);
const INK: RGBColor = RGBColor(34, 34, 34);
const FAINT: RGBColor = RGBColor(110, 110, 110);
const FONT: &str = "sans-serif";

/// A drawing that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// The plotting library failed.
    #[error("the drawing failed: {0}")]
    Draw(String),
    /// A picture cannot be written as PNG.
    #[error("a picture cannot be drawn")]
    Picture(#[from] image::ImageError),
    /// The classes of the data are not the network's.
    #[error(transparent)]
    Classes(#[from] DatasetError),
}

impl From<DrawingAreaErrorKind<io::Error>> for PlotError {
    fn from(error: DrawingAreaErrorKind<io::Error>) -> Self {
        Self::Draw(error.to_string())
    }
}

/// A drawing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plot {
    /// The name of its file.
    pub file: &'static str,
    pub svg: String,
}

/// Draws a training: its curves, and on the pictures kept back the confusion matrix of the float network and its most
/// confident mistakes.
///
/// # Errors
/// If network and pictures do not fit together.
pub fn of_training(
    epochs: &[EpochMetrics],
    network: &FloatNetwork,
    validation: &Dataset,
) -> Result<Vec<Plot>, PlotError> {
    let answers = answers(network, validation)?;
    let mut plots = vec![Plot { file: "curves.svg", svg: curves::draw(epochs)? }];
    plots.extend(of_answers(network.classes(), &answers, validation, "pictures kept back, float network")?);
    Ok(plots)
}

/// Draws an evaluation on its data: the confusion matrix, and the most confident mistakes.
///
/// # Errors
/// If the drawing fails.
pub fn of_evaluation(evaluation: &Evaluation, data: &Dataset) -> Result<Vec<Plot>, PlotError> {
    of_answers(&evaluation.classes, &evaluation.answers, data, &evaluation.model)
}

fn of_answers(classes: &[String], answers: &[Answer], data: &Dataset, about: &str) -> Result<Vec<Plot>, PlotError> {
    let matrix = confusion_matrix(classes.len(), answers);
    Ok(vec![
        Plot { file: "confusion.svg", svg: confusion::draw(classes, &matrix, about)? },
        Plot { file: "mistakes.svg", svg: mistakes::draw(classes, answers, data, about)? },
    ])
}

/// What a float network answers on every picture.
fn answers(network: &FloatNetwork, data: &Dataset) -> Result<Vec<Answer>, PlotError> {
    let labels = data.labels_among(network.classes())?;
    let indexes: Vec<usize> = (0..data.len()).collect();
    let mut answers = Vec::with_capacity(indexes.len());
    for indexes in indexes.chunks(BATCH) {
        let logits = network.logits(data, indexes);
        for (index, logits) in indexes.iter().zip(logits.chunks_exact(network.classes().len())) {
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let given = logits.iter().position(|logit| *logit == largest).unwrap_or(0);
            let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
            answers.push(Answer { label: labels[*index] as usize, given, probability: 1.0 / sum });
        }
    }
    Ok(answers)
}

/// The first characters of a class's name, so that it fits.
fn shortened(name: &str, characters: usize) -> String {
    if name.chars().count() <= characters {
        return name.into();
    }
    name.chars().take(characters.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use ocelli_model::graph::{Graph, Input, Layer, Shape};

    use super::*;
    use crate::train::Normalization;

    const SHAPE: Shape = Shape { channels: 1, height: 4, width: 4 };

    fn epoch(epoch: usize) -> EpochMetrics {
        let progress = epoch as f64 / 10.0;
        EpochMetrics {
            epoch,
            learning_rate: 1e-3,
            loss: 2.0 - progress,
            accuracy: progress,
            validation_loss: 2.1 - progress,
            validation_accuracy: progress * 0.9,
            images_per_second: 1000.0,
            best: true,
        }
    }

    fn data(classes: usize) -> Dataset {
        let names = (0..classes).map(|class| format!("<class & {class}>")).collect();
        let pictures = (0..60).map(|index| {
            let label = index % classes as u32;
            (format!("folder/{index}"), label, vec![(index * 4) as u8; SHAPE.elements()])
        });
        Dataset::from_pixels(SHAPE, names, pictures.collect())
    }

    fn network(classes: usize) -> FloatNetwork {
        let graph = Graph::new(Input::new(1, 4, 4), vec![Layer::logits("out", "input", classes)]).unwrap();
        FloatNetwork::new(graph, data(classes).classes().to_vec(), 6.0, &Normalization::identity(1), 1).unwrap()
    }

    #[test]
    fn a_training_gives_three_whole_files() {
        for (epochs, classes) in [(0, 2), (1, 2), (9, 10), (300, 40)] {
            let epochs: Vec<EpochMetrics> = (1..=epochs).map(epoch).collect();
            let plots = of_training(&epochs, &network(classes), &data(classes)).unwrap();
            let files: Vec<&str> = plots.iter().map(|plot| plot.file).collect();
            assert_eq!(files, ["curves.svg", "confusion.svg", "mistakes.svg"]);
            for plot in &plots {
                assert!(plot.svg.starts_with("<svg") && plot.svg.trim_end().ends_with("</svg>"), "{}", plot.file);
                assert_eq!(plot.svg.matches("</svg>").count(), 1);
                assert!(!plot.svg.contains("<class") && !plot.svg.contains("NaN"), "{}", plot.file);
            }
        }
    }

    #[test]
    fn the_surest_mistake_comes_first() {
        let answer = |label, given, probability| Answer { label, given, probability };
        let mut answers = vec![answer(0, 0, 0.5); 60];
        answers[7] = answer(1, 0, 0.6);
        answers[8] = answer(1, 0, 0.987);
        answers[9] = answer(1, 1, 0.999);
        let classes = ["cat", "dog"].map(String::from);
        let svg = mistakes::draw(&classes, &answers, &data(2), "a test").unwrap();
        assert_eq!(svg.matches("<image ").count(), 2);
        assert!(svg.find("98.7 %").unwrap() < svg.find("60.0 %").unwrap() && !svg.contains("99.9 %"));
        assert!(svg.contains("2 mistakes in 60 pictures"), "{svg}");
    }
}
