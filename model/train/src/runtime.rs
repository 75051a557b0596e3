//! Runtimes of others, which compute the same bits: ONNX Runtime and LiteRT, through a Python that has them.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use ocelli_model::Shape;
use serde::Deserialize;
use serde_json::json;

/// What Python runs.
const PROGRAM: &str = include_str!("runtime.py");
/// The longest line of JSON that is read, in bytes.
const MAX_LINE: u64 = 1 << 16;
/// How much of what Python says on stderr is kept, in bytes.
const KEPT: usize = 4096;

/// A runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum RuntimeKind {
    /// Runs ONNX files
    #[value(name = "onnxruntime")]
    OnnxRuntime,
    /// Runs TFLite files
    #[value(name = "litert")]
    LiteRt,
}

/// A running runtime; it ends when it is dropped.
#[derive(Debug)]
pub struct Runtime {
    kind: RuntimeKind,
    /// As it says.
    pub version: String,
    child: Child,
    /// None once it is to end.
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    /// The end of what it has said on stderr.
    said: Arc<Mutex<VecDeque<u8>>>,
    listener: Option<JoinHandle<()>>,
}

/// A network, and how it is fed.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The bytes of its file.
    pub file: &'a [u8],
    /// Of its pictures.
    pub shape: Shape,
    /// For each channel, or for all, what LiteRT gets for each pixel.
    pub given: &'a [Vec<f32>],
    /// How many numbers it answers for each picture.
    pub outputs: usize,
}

/// Why a runtime gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Python cannot be started.
    #[error("cannot start {python}")]
    Start {
        python: String,
        #[source]
        source: io::Error,
    },
    /// Python has no such runtime.
    #[error("{python} has no {kind}: {said}")]
    Missing {
        python: String,
        kind: RuntimeKind,
        /// The end of what it said.
        said: String,
    },
    /// The runtime does not run the network.
    #[error("{kind} does not run the network: {said}")]
    Refused { kind: RuntimeKind, said: String },
    /// The runtime answered for another number of outputs.
    #[error("{kind} answers with {found} numbers for each picture, expected {expected}")]
    Outputs { kind: RuntimeKind, found: usize, expected: usize },
    /// The runtime has ended.
    #[error("{kind} has ended: {said}")]
    Ended {
        kind: RuntimeKind,
        /// The end of what it said.
        said: String,
        #[source]
        source: io::Error,
    },
}

/// A line of its answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    version: String,
    error: Option<String>,
    outputs: usize,
}

impl RuntimeKind {
    /// What Python calls its package.
    pub fn package(self) -> &'static str {
        match self {
            Self::OnnxRuntime => "onnxruntime",
            Self::LiteRt => "ai-edge-litert",
        }
    }
}

impl fmt::Display for RuntimeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OnnxRuntime => "ONNX Runtime",
            Self::LiteRt => "LiteRT",
        })
    }
}

impl Runtime {
    /// Starts a runtime.
    ///
    /// # Errors
    /// If there is no such Python, or it has no such runtime.
    pub fn start(kind: RuntimeKind, python: &str) -> Result<Self, RuntimeError> {
        let name = if kind == RuntimeKind::LiteRt { "litert" } else { "onnxruntime" };
        let mut command = Command::new(python);
        command.args(["-c", PROGRAM, name]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.map_err(|source| RuntimeError::Start { python: python.into(), source })?;
        let (to, from) = (child.stdin.take(), child.stdout.take().expect("it is piped"));
        let said = Arc::new(Mutex::new(VecDeque::new()));
        let listener = child.stderr.take().map(|stderr| {
            let said = Arc::clone(&said);
            thread::spawn(move || keep_end(stderr, &said))
        });
        let from = BufReader::new(from);
        let mut runtime = Self { kind, version: String::new(), child, to, from, said, listener };
        match runtime.answer() {
            Ok(answer) => runtime.version = answer.version,
            Err(_) => {
                let said = runtime.last_words();
                return Err(RuntimeError::Missing { python: python.into(), kind, said });
            }
        }
        Ok(runtime)
    }

    /// What the network gives for pictures, which are pixels in CHW order: numbers in its own order.
    ///
    /// # Errors
    /// If the runtime does not run the network, or gives another number of numbers.
    pub fn run(&mut self, job: Job, pictures: &[&[u8]]) -> Result<Vec<Vec<i32>>, RuntimeError> {
        let kind = self.kind;
        let answer = match self.exchange(job, pictures) {
            Ok(answer) => answer,
            Err(source) => return Err(RuntimeError::Ended { kind, said: self.last_words(), source }),
        };
        if let Some(said) = answer.error {
            return Err(RuntimeError::Refused { kind, said });
        }
        if answer.outputs != job.outputs {
            return Err(RuntimeError::Outputs { kind, found: answer.outputs, expected: job.outputs });
        }
        let mut bytes = vec![0; 4 * job.outputs];
        let mut all = Vec::new();
        for _ in pictures {
            if let Err(source) = self.from.read_exact(&mut bytes) {
                return Err(RuntimeError::Ended { kind, said: self.last_words(), source });
            }
            all.push(bytes.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect());
        }
        Ok(all)
    }

    fn exchange(&mut self, job: Job, pictures: &[&[u8]]) -> io::Result<Answer> {
        let Shape { channels, height, width } = job.shape;
        let header = json!({
            "model": job.file.len(), "pictures": pictures.len(), "shape": [channels, height, width], "given": job.given,
        });
        let to = self.to.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(to, "{header}")?;
        to.write_all(job.file)?;
        pictures.iter().try_for_each(|picture| to.write_all(picture))?;
        to.flush()?;
        self.answer()
    }

    fn answer(&mut self) -> io::Result<Answer> {
        let mut line = Vec::new();
        self.from.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&line)?)
    }

    /// The end of what it has said on stderr, once it has ended.
    fn last_words(&mut self) -> String {
        self.end();
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let said: Vec<u8> = said.iter().copied().collect();
        let said = String::from_utf8_lossy(&said);
        // Python's last line is the error; those before it say where.
        said.trim().lines().last().unwrap_or("it says nothing").to_owned()
    }

    fn end(&mut self) {
        // Its stdin ends, and so does it. Both fail only for a process that is gone.
        self.to = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reads all, so that whoever writes does not wait, and keeps the end.
fn keep_end(mut from: impl Read, kept: &Mutex<VecDeque<u8>>) {
    let mut bytes = [0; 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(&bytes[..count]);
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }
}
