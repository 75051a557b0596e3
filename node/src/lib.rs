//! The Ocelli node: the only place with disk, sockets, clock, threads and a terminal.

pub mod wallet;
