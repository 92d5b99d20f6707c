//! What a user waits for who only asks: one node with many children that run, and handles to it.

use std::sync::OnceLock;
use std::time::Duration;

use divan::Bencher;
use haulout::{Child, ChildContext, ChildId, ChildSpec, Config, Node, Supervisor, Which};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

const CHILDREN: usize = 100_000;

fn main() {
    divan::main();
}

/// A child that does nothing but run.
#[derive(Serialize, Deserialize)]
struct Idle;

impl Child for Idle {
    const KIND: &'static str = "idle";

    async fn run(self, ctx: ChildContext) -> Result<(), haulout::BoxError> {
        ctx.stopping().await;
        Ok(())
    }
}

/// The children of the node.
fn ids() -> impl Iterator<Item = ChildId> + Clone {
    (0..CHILDREN).map(|number| ChildId::new(format!("child-{number}")).expect("a short id"))
}

/// A node with its children, made once.
fn settled() -> &'static (Runtime, Supervisor) {
    static SETTLED: OnceLock<(Runtime, Supervisor)> = OnceLock::new();
    SETTLED.get_or_init(|| {
        let runtime = Runtime::new().expect("threads");
        let supervisor = runtime.block_on(async {
            let node = Node::builder(Config::default()).start().await.expect("a free port");
            let supervisor = node.scope("bench").kind::<Idle>().join().await.expect("a new scope");
            for id in ids() {
                let spec = ChildSpec::new(id, &Idle).expect("a short spec");
                supervisor.start_child(spec).await.expect("a new id");
            }
            for id in ids() {
                supervisor.wait_until_running(id, Duration::from_secs(60)).await.expect("it runs at once");
            }
            supervisor
        });
        (runtime, supervisor)
    })
}

/// One child after another, in an order that is not that of their keys.
#[divan::bench(sample_count = 200, sample_size = 100)]
fn whereis(bencher: Bencher<'_, '_>) {
    let (runtime, supervisor) = settled();
    let mut ids = ids().cycle();
    bencher.with_inputs(|| ids.next().expect("endless")).bench_local_values(|id| {
        runtime.block_on(supervisor.whereis(id)).expect("the node is there").expect("it runs")
    });
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn which_children_global(bencher: Bencher<'_, '_>) {
    let (runtime, supervisor) = settled();
    bencher.bench_local(|| {
        let children = runtime.block_on(supervisor.which_children(Which::Global)).expect("the node is there");
        assert_eq!(children.len(), CHILDREN);
        children
    });
}

/// The limit of a listing: its ids copied and put in order.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn sorted_copy_of_the_ids(bencher: Bencher<'_, '_>) {
    let (runtime, supervisor) = settled();
    let mut shuffled: Vec<_> = runtime.block_on(supervisor.which_children(Which::Global)).expect("the node is there");
    shuffled.sort_by_key(|child| child.id.to_string().bytes().rev().collect::<Vec<_>>());
    bencher.bench_local(|| {
        let mut ids: Vec<_> = shuffled.iter().map(|child| child.id.clone()).collect();
        ids.sort_unstable();
        ids
    });
}
