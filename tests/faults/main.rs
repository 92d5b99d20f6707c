//! Real faults on real processes, and the same faults in the simulator beside them.
//!
//! `cargo test --test faults -- --run` takes each scenario of `scenarios/` through both: processes of the example service, each on
//! a host of its own (a network namespace with its own address, all joined by a bridge), and simulated nodes. Whether the
//! promises of the README were kept is judged from the monitors' own journals. The README beside this file says what is
//! measured and how to add a fault.

#[allow(dead_code, reason = "it is the example's, which uses more of it")]
#[path = "../../examples/service_monitor/clock.rs"]
mod clock;
#[path = "../../examples/service_monitor/control.rs"]
mod control;
#[allow(dead_code, reason = "its tests, which are run with the example")]
#[path = "../../examples/service_monitor/journal.rs"]
mod journal;
#[path = "../../examples/service_monitor/node.rs"]
mod node;
#[allow(dead_code, reason = "it is the example's, which uses more of it")]
#[path = "../../examples/service_monitor/process.rs"]
mod process;
#[cfg(target_os = "linux")]
mod suite;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    suite::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("skipped: hosts are made of network namespaces, which only Linux has");
}
