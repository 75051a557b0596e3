//! Real nodes over real sockets on the loopback interface, with real stores: what a network must withstand.

mod nodes {
    mod api;
    #[allow(dead_code, reason = "the bench of the same flood uses other parts")]
    #[path = "../../examples/flood/attacker.rs"]
    mod attacker;
    mod bad_blocks;
    mod clock;
    #[cfg(unix)]
    mod crash;
    mod device;
    mod flood;
    mod forgotten;
    mod harness;
    mod history;
    mod hostile;
    mod http;
    #[allow(dead_code, reason = "the bench of the same flood uses other parts")]
    #[path = "../../examples/flood/lawful.rs"]
    mod lawful;
    mod models;
    mod partition;
    mod peers;
    mod pictures;
    mod pruning;
    mod relay;
    mod slow;
    mod sync;
    mod versions;
    mod waiting;
}
