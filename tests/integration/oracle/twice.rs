//! Every case that changes nothing, twice in a row, through a router that keeps answers: the second answer is a kept one where
//! there is one, and both are the oracle's.

use super::*;
use crate::cache::numbers;

#[test]
fn kept_answers_are_the_oracles() {
    let turn = turn();
    let plain = plain();
    let house = build_house("oracle_kept", "[cache]\nenabled = true\n");
    assert_eq!(house.data_failures, Vec::<String>::new());
    let hits = || numbers(&house.env, "keyway_cache_hits_total")["{layer=\"memory\"}"];
    let mut sessions = Sessions::default();
    let (mut failures, mut runs) = (Vec::new(), 0_u64);
    let mut turns = 0;
    for name in FILES {
        for mut case in read_cases(&file(&format!("oracle/cases/{name}.sql"))) {
            // What is described by itself is asked for in two messages that belong together, and not kept.
            case.undescribed = true;
            if case.steps.len() > 1 || case.is_wrapped() || case.needs_own_session() {
                continue;
            }
            // By turns, for the sake of time: text in one case, binary in the next.
            turns += 1;
            let left_out = [Mode::Extended, Mode::Binary][turns % 2];
            for &mode in case.modes.iter().filter(|mode| **mode != left_out) {
                if mode == Mode::Simple && !case.parameters.is_empty() {
                    continue;
                }
                for time in ["first", "again"] {
                    runs += 1;
                    let verdict = compare(&mut sessions, &house.keyway, &plain.oracle, &case, mode);
                    if let Verdict::Different(text) = verdict {
                        failures.push(format!("{}@{}, {time}: {text}", case.name, mode.name()));
                    }
                }
            }
        }
    }
    drop(turn);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(hits() > runs / 4, "{} of {runs} were kept", hits());
}
