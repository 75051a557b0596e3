//! How often a model is right, on labelled pictures.

use std::time::Instant;

use ocelli_model::backend::{Backend, BackendError};
use ocelli_model::graph::Shape;
use ocelli_model::model::Model;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::dataset::{Dataset, DatasetError};

/// How many pictures are run at once.
const BATCH: usize = 128;
/// The number of bins of the calibration error (C. Guo et al., "On Calibration of Modern Neural Networks", 2017,
/// section 2, who use 15).
const CALIBRATION_BINS: usize = 15;

/// An evaluation that cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// The data is of another shape than the model reads.
    #[error("found pictures of {found}, expected {expected} as the model reads")]
    Shape {
        /// The shape of the data.
        found: Shape,
        /// The shape the model reads.
        expected: Shape,
    },
    /// The classes of the data are not the model's.
    #[error(transparent)]
    Classes(#[from] DatasetError),
    /// The backend failed.
    #[error("{device} gave no answer")]
    Backend {
        device: String,
        #[source]
        source: Box<BackendError>,
    },
}

/// How often a model was right. As JSON its fields come in this order, which scripts may rely on; more may follow.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Evaluation {
    /// The name of the model.
    pub model: String,
    /// The number of pictures.
    pub images: usize,
    /// The share of pictures whose label was right.
    pub top1: f64,
    /// The share of pictures whose class was among the five largest logits.
    pub top5: f64,
    /// The share of each class's pictures whose label was right, for the classes that had any.
    pub per_class: PerClass,
    /// Pictures a second, decoding not counted.
    pub images_per_second: f64,
    /// The device it ran on.
    pub device: String,
    /// The mean negative logarithm of the probability of the right class.
    pub loss: f64,
    /// The mean difference between probability and accuracy, over 15 bins of the probability of the label.
    pub expected_calibration_error: f64,
    /// The names of the classes, in the order of the confusion matrix.
    pub classes: Vec<String>,
    /// How many pictures of a class (row) got a label (column).
    pub confusion: Vec<Vec<u64>>,
    /// What was answered on every picture, in the order of the data; not in the JSON.
    #[serde(skip)]
    pub answers: Vec<Answer>,
}

/// What was answered on a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer {
    /// The picture's class, as an index into the network's.
    pub label: usize,
    /// The label it got.
    pub given: usize,
    /// The probability of the label it got.
    pub probability: f64,
}

impl Answer {
    /// Whether the label is another than the class.
    pub fn is_mistake(&self) -> bool {
        self.label != self.given
    }
}

/// How many pictures of a class (row) got a label (column).
///
/// # Panics
/// If a class or label is not below `classes`.
pub fn confusion_matrix(classes: usize, answers: &[Answer]) -> Vec<Vec<u64>> {
    let mut matrix = vec![vec![0; classes]; classes];
    for answer in answers {
        matrix[answer.label][answer.given] += 1;
    }
    matrix
}

/// Shares by class, in the order of the classes; a map in JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct PerClass(pub Vec<(String, f64)>);

impl Serialize for PerClass {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (class, share) in &self.0 {
            map.serialize_entry(class, share)?;
        }
        map.end()
    }
}

/// Runs a model on all pictures of a data set and compares. `progress` is told how many are done.
///
/// # Errors
/// If shapes or classes do not fit, or the backend fails.
pub fn evaluate(
    model: &Model,
    backend: &mut dyn Backend,
    data: &Dataset,
    progress: &mut dyn FnMut(usize),
) -> Result<Evaluation, EvaluateError> {
    let labels = data.labels_among(model.classes())?;
    let start = Instant::now();
    let logits = logits(model, backend, data, progress)?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(Evaluation {
        device: backend.name(),
        images_per_second: data.len() as f64 / seconds.max(1e-9),
        ..score(model, &labels, &logits)
    })
}

/// The logits of all pictures of a data set.
///
/// # Errors
/// If the shape does not fit, or the backend fails.
pub fn logits(
    model: &Model,
    backend: &mut dyn Backend,
    data: &Dataset,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Vec<i32>>, EvaluateError> {
    if data.shape() != model.input() {
        return Err(EvaluateError::Shape { found: data.shape(), expected: model.input() });
    }
    let images: Vec<&[u8]> = (0..data.len()).map(|index| data.pixels(index)).collect();
    let mut logits = Vec::with_capacity(images.len());
    for batch in images.chunks(BATCH) {
        let answers = backend.logits(model, batch);
        logits.extend(
            answers.map_err(|source| EvaluateError::Backend { device: backend.name(), source: source.into() })?,
        );
        progress(logits.len());
    }
    Ok(logits)
}

/// Compares logits with labels; nothing is known of device and time.
fn score(model: &Model, labels: &[u32], logits: &[Vec<i32>]) -> Evaluation {
    let classes = model.classes().to_vec();
    let mut answers = Vec::with_capacity(labels.len());
    let (mut among_five, mut loss) = (0u64, 0.0);
    let mut bins = [(0u64, 0.0, 0u64); CALIBRATION_BINS];
    for (label, logits) in labels.iter().map(|label| *label as usize).zip(logits) {
        let found = model.label(logits);
        let ahead = |other: usize| logits[other] > logits[label] || (logits[other] == logits[label] && other < label);
        among_five += u64::from((0..logits.len()).filter(|other| ahead(*other)).count() < 5);
        let probabilities = model.probabilities(logits);
        loss -= probabilities[label].max(f64::MIN_POSITIVE).ln();
        answers.push(Answer { label, given: found, probability: probabilities[found] });
        let bin = (probabilities[found] * CALIBRATION_BINS as f64) as usize;
        let (count, sum, right) = &mut bins[bin.min(CALIBRATION_BINS - 1)];
        (*count, *sum, *right) = (*count + 1, *sum + probabilities[found], *right + u64::from(found == label));
    }
    let images = labels.len();
    let confusion = confusion_matrix(classes.len(), &answers);
    let share = |count: u64| count as f64 / images.max(1) as f64;
    let per_class = classes.iter().enumerate().filter_map(|(class, name)| {
        let all: u64 = confusion[class].iter().sum();
        (all > 0).then(|| (name.clone(), confusion[class][class] as f64 / all as f64))
    });
    Evaluation {
        model: model.name().into(),
        device: String::new(),
        images,
        top1: share((0..classes.len()).map(|class| confusion[class][class]).sum()),
        top5: share(among_five),
        loss: loss / images.max(1) as f64,
        expected_calibration_error: bins.iter().map(|(_, sum, right)| (sum - *right as f64).abs()).sum::<f64>()
            / images.max(1) as f64,
        per_class: PerClass(per_class.collect()),
        classes,
        confusion,
        answers,
        images_per_second: 0.0,
    }
}

#[cfg(test)]
mod tests {
    use ocelli_model::backend::ReferenceBackend;
    use ocelli_model::display::Display;
    use ocelli_model::file::{ModelFile, Parameters};
    use ocelli_model::graph::{Graph, Input, Layer};

    use super::*;

    /// Six classes; the logits are the six pixels, of which two more double a probability.
    fn model() -> Model {
        let graph = Graph::new(Input::new(6, 1, 1), vec![Layer::logits("out", "input", 6)]).unwrap();
        let weight = (0..36).map(|index| i8::from(index / 6 == index % 6)).collect();
        let parameters = vec![Parameters { weight, bias: vec![0; 6], ..Parameters::default() }];
        let classes = ["a", "b", "c", "d", "e", "f"].map(String::from).to_vec();
        let display = Display { name: "six".into(), classes, scale: 2f64.ln() / 2.0, card: String::new() };
        ModelFile { graph, parameters, display }.build().unwrap()
    }

    fn data(classes: &[&str], pictures: &[(u32, [u8; 6])]) -> Dataset {
        let pictures = pictures.iter().map(|(label, pixels)| (String::from("x"), *label, pixels.to_vec())).collect();
        Dataset::from_pixels(model().input(), classes.iter().map(|class| String::from(*class)).collect(), pictures)
    }

    #[test]
    fn a_known_table() {
        // The data knows two of the six classes, in another order.
        let pictures = [
            (0, [0, 0, 4, 0, 0, 0]), // c: right, with probability 4 / 9
            (0, [2, 0, 2, 0, 0, 0]), // c: a is as large and comes first, 2 / 8
            (1, [0, 0, 0, 0, 0, 0]), // a: right, 1 / 6
            (1, [0, 2, 2, 2, 2, 2]), // a: the last of six, 1 / 11
        ];
        let data = data(&["c", "a"], &pictures);
        let evaluation = evaluate(&model(), &mut ReferenceBackend, &data, &mut |_| ()).unwrap();
        assert_eq!((evaluation.images, evaluation.top1, evaluation.top5), (4, 0.5, 0.75));
        assert_eq!(evaluation.per_class, PerClass(vec![("a".into(), 0.5), ("c".into(), 0.5)]));
        let mut confusion = vec![vec![0; 6]; 6];
        (confusion[2][2], confusion[2][0], confusion[0][0], confusion[0][1]) = (1, 1, 1, 1);
        assert_eq!(evaluation.confusion, confusion);
        let loss = -[4.0 / 9.0, 0.25, 1.0 / 6.0, 1.0 / 11.0f64].map(f64::ln).iter().sum::<f64>() / 4.0;
        assert!((evaluation.loss - loss).abs() < 1e-12);
        // In bins of their own: 4 / 9 right; 1 / 4 wrong; 1 / 6 right and 2 / 11 wrong share one.
        let error = ((1.0 - 4.0 / 9.0) + 0.25 + (1.0 - 1.0 / 6.0 - 2.0 / 11.0f64)) / 4.0;
        assert!((evaluation.expected_calibration_error - error).abs() < 1e-12);
        let text = serde_json::to_string(&evaluation).unwrap();
        let begin =
            r#"{"model":"six","images":4,"top1":0.5,"top5":0.75,"per_class":{"a":0.5,"c":0.5},"images_per_second":"#;
        assert!(text.starts_with(begin), "{text}");
    }

    #[test]
    fn data_that_does_not_fit() {
        let error = evaluate(&model(), &mut ReferenceBackend, &data(&["cat"], &[(0, [0; 6])]), &mut |_| ());
        let Err(EvaluateError::Classes(DatasetError::UnknownClass { class, known })) = error else {
            panic!("{error:?}")
        };
        assert_eq!((class.as_str(), known.len()), ("cat", 6));

        let shape = Shape { channels: 1, height: 2, width: 3 };
        let data = Dataset::from_pixels(shape, vec!["a".into()], vec![("x".into(), 0, vec![0; 6])]);
        let error = evaluate(&model(), &mut ReferenceBackend, &data, &mut |_| ());
        let Err(EvaluateError::Shape { found, expected }) = error else { panic!("{error:?}") };
        assert_eq!((found, expected), (shape, model().input()));
    }
}
