//! Standard networks of 224x224 on the integer kernels.

use std::num::NonZeroUsize;

use ocelli_model::sample::{self, networks};
use ocelli_model::{Kernel, KernelBackend, Model};

fn model(name: &str) -> Model {
    sample::trained(networks::by_name(name, 127).expect("known"), &mut sample::seeded(1))
}

/// However many images a batch has: they run in groups that fit a cache, and each thread has buffers for one group.
#[test]
fn two_threads_take_at_most_100_mib() {
    for name in ["mobilenet-v2", "efficientnet-lite0", "resnet-50"] {
        let model = model(name);
        for kernel in Kernel::available() {
            let mut backend = KernelBackend::with(kernel, NonZeroUsize::new(2).expect("not 0")).expect("available");
            let memory = backend.memory(&model).expect("fits");
            assert!(memory <= 100 << 20, "{name}, {kernel}: {memory} bytes");
            assert!(memory > model.parameter_count(), "{name}, {kernel}: {memory} bytes");
        }
    }
}

#[test]
fn networks_have_names() {
    for name in networks::NAMES {
        let eight = networks::by_name(name, 255).expect("known");
        assert_eq!(eight.cost(), networks::by_name(name, 127).expect("known").cost(), "{name}");
        assert!(eight.to_json().contains("\"high\":255"), "{name}");
    }
    assert_eq!(networks::by_name("resnet-152", 127), None);
}
