//! The mean of each window: what an average pool is in the float network.

use super::activation::round;
use super::window::{Slide as _, Window};

/// Gives `clamp(scale * sum, low, high)` of every window of images `(H, W, C)`, rounded to multiples of `step` if there is one.
/// The window has no padding.
#[derive(Debug, Clone, Copy)]
pub struct AveragePool {
    /// Rows, columns and channels of the input.
    pub image: [usize; 3],
    /// What is added up.
    pub window: Window,
    /// What sums are multiplied by.
    pub scale: f32,
    /// What means are clamped to.
    pub low: f32,
    /// As `low`.
    pub high: f32,
    /// What they are rounded to multiples of.
    pub step: Option<f32>,
}

impl AveragePool {
    /// Means of an image.
    pub fn outputs(&self) -> usize {
        self.window.outputs(self.image).iter().product::<usize>() * self.image[2]
    }

    /// Writes the means.
    pub fn forward(&self, input: &[f32], means: &mut [f32]) {
        let channels = self.image[2];
        let steps = self.window.steps(self.image);
        for (means, corner) in means.chunks_exact_mut(channels).zip(self.window.corners(self.image)) {
            means.fill(0.0);
            for step in &steps {
                means.iter_mut().zip(&input[corner + step..]).for_each(|(sum, value)| *sum += value);
            }
            means.iter_mut().for_each(|sum| *sum = (*sum * self.scale).clamp(self.low, self.high));
            if let Some(step) = self.step {
                means.iter_mut().for_each(|mean| *mean = round(*mean, step));
            }
        }
    }

    /// Adds to the gradient of the input, given the means and their gradient. None passes where a bound took hold.
    pub fn backward(&self, means: &[f32], slopes: &[f32], gradient: &mut [f32]) {
        let channels = self.image[2];
        let steps = self.window.steps(self.image);
        let outputs = means.chunks_exact(channels).zip(slopes.chunks_exact(channels));
        for ((means, slopes), corner) in outputs.zip(self.window.corners(self.image)) {
            for step in &steps {
                for ((sum, mean), slope) in gradient[corner + step..].iter_mut().zip(means).zip(slopes) {
                    *sum += if self.low < *mean && *mean < self.high { slope * self.scale } else { 0.0 };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_gradients_by_hand() {
        // Two channels, two rows, three columns; windows of 2 that overlap.
        let input: Vec<f32> = (0..12).map(|number| number as f32).collect();
        let window = Window::square(2, 1, 0);
        let pool = AveragePool { image: [2, 3, 2], window, scale: 0.25, low: 4.0, high: 6.5, step: None };
        let mut means = vec![0.0; pool.outputs()];
        // Channel 0: (0 + 2 + 6 + 8) / 4 and (2 + 4 + 8 + 10) / 4; channel 1: one more each. The first and the last are clamped.
        pool.forward(&input, &mut means);
        assert_eq!(means, [4.0, 5.0, 6.0, 6.5]);
        let mut rounded = vec![0.0; pool.outputs()];
        AveragePool { step: Some(2.0), ..pool }.forward(&input, &mut rounded);
        assert_eq!(rounded, [4.0, 4.0, 6.0, 6.0]);
        let mut gradient = vec![0.0; 12];
        pool.backward(&means, &[1.0; 4], &mut gradient);
        assert_eq!(gradient, [0.0, 0.25, 0.25, 0.25, 0.25, 0.0, 0.0, 0.25, 0.25, 0.25, 0.25, 0.0]);
    }
}
