//! Times the networks of `ocelli_kernels::shapes` on one thread: `time [KERNEL] [NETWORK] [--layers]`.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ocelli_kernels::shapes::Network;
use ocelli_kernels::{Kernel, Plan, limit};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let kernel = arguments.iter().find_map(|text| text.parse().ok()).unwrap_or_else(Kernel::best);
    let layers = arguments.iter().any(|text| text == "--layers");
    let networks = Network::all(127).into_iter().zip(Network::all(255));
    for (seven, eight) in networks {
        let named = |network: &Network| arguments.iter().any(|text| text == network.name);
        if !named(&seven) && arguments.iter().any(|text| text.parse::<Kernel>().is_err() && text != "--layers") {
            continue;
        }
        for (bits, network) in [(7, &seven), (8, &eight)] {
            time(kernel, network, bits, layers);
        }
    }
}

fn time(kernel: Kernel, network: &Network, bits: u8, layers: bool) {
    let begun = Instant::now();
    let plan = Plan::new(network.input, &network.zero_points, &network.layers(), kernel).expect("a plan");
    let made = begun.elapsed();
    let mut scratch = plan.scratch();
    let image: Vec<u8> = (0..network.input.elements()).map(|place| ((place * 2_654_435_761) >> 13) as u8).collect();
    for images in [1, 8] {
        let all = vec![image.as_slice(); images];
        let classes = plan.logits();
        let mut logits = vec![0; images * classes];
        let mut times = Vec::new();
        let begun = Instant::now();
        while times.len() < 5 || (begun.elapsed() < Duration::from_millis(700) && times.len() < 1000) {
            let begun = Instant::now();
            for (images, logits) in all.chunks(plan.group()).zip(logits.chunks_mut(plan.group() * classes)) {
                plan.run(&mut scratch, images, logits);
            }
            times.push(begun.elapsed().as_secs_f64() / images as f64);
        }
        times.sort_by(f64::total_cmp);
        let (best, median) = (times[0], times[times.len() / 2]);
        println!(
            "{} {bits} bits, {kernel}, batch {images} (group {}): {:.3} ms at best, {:.3} ms median, {:.1} images/s; {:?}, made in {made:.1?}",
            network.name,
            plan.group(),
            best * 1e3,
            median * 1e3,
            1.0 / median,
            plan.bytes(),
        );
    }
    let profile = plan.profile(&mut scratch, &[&image], 40);
    let total: f64 = profile.iter().map(|step| step.time.as_secs_f64()).sum();
    let mut by_method: BTreeMap<&str, (f64, u64, f64)> = BTreeMap::new();
    for step in &profile {
        let rate = limit_of(kernel, step.method);
        let time = step.time.as_secs_f64();
        let entry = by_method.entry(step.method.name()).or_default();
        *entry = (entry.0 + time, entry.1 + step.products, rate);
        if layers {
            let share = step.products as f64 / time / rate;
            println!("  {:3} {:18} {:8.1} us {:5.2}", step.layer, step.method.name(), time * 1e6, share);
        }
    }
    for (name, (time, products, rate)) in by_method {
        let share = products as f64 / time / rate;
        println!("  {name:18} {:5.1} % of {:.3} ms, {share:.2} of the limit", time / total * 100.0, total * 1e3);
    }
}

fn limit_of(kernel: Kernel, method: ocelli_kernels::Method) -> f64 {
    thread_local! { static KNOWN: std::cell::RefCell<BTreeMap<&'static str, f64>> = std::cell::RefCell::default(); }
    KNOWN.with_borrow_mut(|known| {
        *known.entry(method.name()).or_insert_with(|| limit(kernel, method).unwrap_or(f64::INFINITY))
    })
}
