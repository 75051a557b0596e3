//! How networks become models: labelled pictures, training in floats, quantisation to exact integers, import of ONNX and TFLite files,
//! and what shows how good the result is. No node needs it; `ocelli-train` is its command line.

pub mod commands;
pub mod dataset;
pub mod evaluate;
pub mod export;
pub mod onnx;
pub mod plots;
pub mod quantize;
pub mod runtime;
pub mod tflite;
pub mod train;
