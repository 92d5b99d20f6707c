//! Everything at once, over real sockets.

use std::collections::BTreeSet;

use tokio::task::JoinSet;

use crate::support::cluster::Member;
use crate::support::{Act, Cluster, soon};

const NODES: usize = 20;
const CHILDREN: usize = 150;
const STEPS: usize = 150;

/// A sequence that is the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % count
    }
}

/// Goal: whatever is done in whatever order, exactly the desired children run in the end, once each, and all agree.
/// Method: nodes leave and join, children are started, replaced and terminated at random, without waiting for one
/// another; at the end the journal and every node's listing must show what was asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_and_children_that_come_and_go_at_random_end_with_exactly_what_is_desired() {
    let seed = 20_240_607;
    println!("seed {seed}");
    let mut dice = Dice(seed);
    let mut cluster = Cluster::empty();
    // A node that comes back must find one of them, whoever is away.
    cluster.seed_all(NODES);
    cluster.grow(NODES).await;
    let mut desired: BTreeSet<String> = BTreeSet::new();
    let mut absent: Vec<usize> = Vec::new();
    let mut leaving: JoinSet<usize> = JoinSet::new();
    let mut started = 0;
    for _ in 0..STEPS {
        let member = cluster[dice.below(cluster.members.len())].clone();
        match dice.below(10) {
            0 if cluster.members.len() > NODES / 2 => {
                let leaver = cluster.members.remove(dice.below(cluster.members.len()));
                leaving.spawn(leave(leaver));
            }
            1 => {
                absent.extend(leaving.try_join_next().map(|left| left.expect("it leaves")));
                if let Some(number) = absent.pop() {
                    let back = cluster.start(number).await;
                    cluster.members.push(back);
                }
            }
            2 | 3 if !desired.is_empty() => {
                let id = desired.iter().nth(dice.below(desired.len())).cloned().expect("it is one of them");
                desired.remove(&id);
                soon("a terminate", member.supervisor.terminate_child(id)).await.expect("it is known");
            }
            _ => {
                for _ in 0..CHILDREN * 2 / STEPS {
                    let id = format!("child-{started}");
                    let spec = cluster.journal.spec(&id, Act::Live);
                    soon("a start", member.supervisor.start_child(spec).replicated(1)).await.expect("it is accepted");
                    desired.insert(id);
                    started += 1;
                }
            }
        }
    }
    soon("the last leaves", async { while leaving.join_next().await.is_some() {} }).await;
    let ids: Vec<String> = desired.into_iter().collect();
    cluster.know_each_other().await;
    cluster.quiet(&ids).await;
    cluster.journal.assert_no_overlap();
}

/// Returns the number in the name of the node.
async fn leave(member: Member) -> usize {
    soon("a leave", member.node.leave()).await.expect("it leaves cleanly");
    member.name()[1..].parse().expect("a name like n7")
}
