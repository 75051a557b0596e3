//! A device that computes wrongly.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};

use ocelli_consensus::{Address, Amount};
use ocelli_model::{Backend, BackendError, Model};
use ocelli_protocol::message::SubmitReply;

use super::harness::{Maker, RawPeer, TestNode, cpu, easy_network, right, wait};

/// A good device until it is told to break; then one logit is wrong by one.
struct Breaking {
    good: Box<dyn Backend>,
    broken: Arc<AtomicBool>,
}

impl Backend for Breaking {
    fn name(&self) -> String {
        "a device that breaks".into()
    }

    fn kernel_name(&self) -> String {
        "faulty".into()
    }

    fn threads(&self) -> usize {
        1
    }

    fn logits(&mut self, model: &Model, images: &[&[u8]]) -> Result<Vec<Vec<i32>>, BackendError> {
        let mut logits = self.good.logits(model, images)?;
        if self.broken.load(Ordering::SeqCst) {
            logits[0][2] += 1;
        }
        Ok(logits)
    }
}

/// A good device that runs nothing before it is let go.
struct Held {
    good: Box<dyn Backend>,
    until: Option<Receiver<()>>,
}

impl Backend for Held {
    fn name(&self) -> String {
        "a device that is held".into()
    }

    fn kernel_name(&self) -> String {
        self.good.kernel_name()
    }

    fn threads(&self) -> usize {
        self.good.threads()
    }

    fn logits(&mut self, model: &Model, images: &[&[u8]]) -> Result<Vec<Vec<i32>>, BackendError> {
        if let Some(until) = self.until.take() {
            until.recv().unwrap();
        }
        self.good.logits(model, images)
    }
}

#[test]
fn a_node_listens_while_its_device_is_checked() {
    let network = easy_network();
    let (let_go, until) = channel();
    let device = Box::new(Held { good: cpu(), until: Some(until) });
    let node = TestNode::with_backend(&network, &[], None, device);
    // Who connects to it is answered what needs no model.
    let (_peer, _) = RawPeer::connect(&network, &node);
    assert_eq!(node.status().device.name, "a device that is held, being checked");
    let_go.send(()).unwrap();
    let task = Maker::new(&network).classify(0, 1);
    let expected = right(&task);
    let reply = node.submit(task);
    let SubmitReply::Accepted { answer: Some(answer) } = reply else { panic!("{reply:?}") };
    assert_eq!(answer.answer, expected);
    assert_eq!(node.status().device.name, "a device that is held");
}

#[test]
fn a_faulty_device_is_disabled_and_the_node_stays_on_the_chain() {
    let network = easy_network();
    let broken = Arc::new(AtomicBool::new(false));
    let node =
        TestNode::with_backend(&network, &[], None, Box::new(Breaking { good: cpu(), broken: Arc::clone(&broken) }));
    let (peer, _) = RawPeer::connect(&network, &node);
    let mut maker = Maker::new(&network);
    // It breaks after it was found exact.
    wait("the check of the device", || (node.status().device.name == "a device that breaks").then_some(()));
    broken.store(true, Ordering::SeqCst);

    // A task that nobody's block holds yet: the device's answer is wrong, and nothing contradicts it.
    let task = maker.classify(0, 1);
    let reply = node.submit(task.clone());
    let expected = right(&task);
    let SubmitReply::Accepted { answer: Some(answer) } = reply else { panic!("{reply:?}") };
    assert_ne!(answer.answer, expected);

    // A block with the right answer does: the scalar reference decides.
    let (header, data) = maker.make(&[task, maker.transfer(1, Address([5; 20]), Amount(1_000_000))]);
    peer.announce(&header, &data.body);
    peer.serve_until(&data, header.hash(), || node.status().tip.hash == header.hash());
    let status = node.status();
    assert!(status.device.disabled, "{}", status.device.name);
    assert!(status.invalid.is_empty());

    // From now on the answers are right.
    let task = maker.classify(0, 2);
    let expected = right(&task);
    let reply = node.submit(task);
    let SubmitReply::Accepted { answer: Some(answer) } = reply else { panic!("{reply:?}") };
    assert_eq!(answer.answer, expected);
}
