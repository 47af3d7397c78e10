//! The stage itself: what arrives without boundary, so that nothing arriving means something.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::escape::OPTIONS;
use crate::escape::traces::{FOREIGN, Ground, clear_up};
use crate::world::World;
use crate::world::needs::{cgroup2, needs};
use crate::world::processes::eventually;

#[test]
fn a_client_reaches_http_by_name_and_by_address_over_both_families() {
    needs!(root, curl);
    let world = World::new();
    for url in [
        "http://allowed.test/a",
        "http://203.0.113.10/a",
        "http://six.test/a",
        "http://[2001:db8::10]/a",
    ] {
        world.bare(&["curl", "-sS", url]).output().exits(0).says("this is");
    }
}

#[test]
fn the_wire_sees_where_a_packet_went() {
    needs!(root, curl);
    let world = World::new();
    let out = world.bare(&["curl", "-sS", "http://four.test/"]).output();
    out.exits(0).reached("203.0.113.4").reached("192.0.2.53");
    out.expect(out.questions.iter().any(|asked| asked.name == "four.test"), "the name was asked");
    out.expect(out.requests.len() == 1, "one request arrived");
}

#[test]
fn https_answers_with_a_certificate_for_the_name_or_the_address() {
    needs!(root, curl);
    let world = World::new();
    for url in ["https://allowed.test/", "https://203.0.113.10/", "https://[2001:db8::10]/"] {
        world.bare(&["curl", "-sS", url]).output().exits(0).says("this is");
    }
    for url in ["https://expired.test/", "https://selfsigned.test/", "https://wrong.test/"] {
        world.bare(&["curl", "-sS", url]).output().exits(60);
    }
}

#[test]
fn an_idle_world_is_silent() {
    needs!(root);
    let world = World::new();
    world.bare(&["true"]).output().exits(0).nothing_left();
}

#[test]
fn every_resolver_address_answers_over_udp_and_tcp() {
    needs!(root);
    let world = World::new();
    for server in ["8.8.8.8", "2001:4860:4860::8888", "192.0.2.53"] {
        for how in ["udp", "tcp"] {
            let question = [world.attack(), "dns", how, server, "allowed.test", "A"];
            let out = world.bare(&question).output();
            out.succeeded().reached(server);
            let found = out.finding()["found"].clone();
            out.expect(found["addresses"][0] == "203.0.113.10", "the address comes back");
        }
    }
}

#[test]
fn every_kind_of_attack_arrives_where_nothing_holds_it() {
    needs!(root);
    let world = World::new();
    let four = "203.0.113.66";
    let six = "2001:db8::66";
    for target in [four, six, "::ffff:203.0.113.66"] {
        let arrives = if target == six { six } else { four };
        world.bare(&[world.attack(), "tcp", target, "80", "http:x"]).output().succeeded();
        for how in ["sendto", "connect", "sendmsg", "sendmmsg", "write", "from-inside"] {
            let out = world.bare(&[world.attack(), "udp", how, target, "9999"]).output();
            out.succeeded().reached(arrives);
        }
        world.bare(&[world.attack(), "udplite", target, "9999"]).output().reached(arrives);
        world.bare(&[world.attack(), "mptcp", target, "80", "http:x"]).output().reached(arrives);
        world.bare(&[world.attack(), "fastopen", target, "80"]).output().reached(arrives);
    }
    world.bare(&[world.attack(), "udp", "unspec", four, "9999"]).output().reached(four);
    world.bare(&[world.attack(), "udp", "four-on-six", four, "9999"]).output().reached(four);
    for kind in ["raw", "icmp"] {
        world.bare(&[world.attack(), kind, four]).output().reached(four);
        world.bare(&[world.attack(), kind, six]).output().reached(six);
    }
    world.bare(&[world.attack(), "packet", "2"]).output().expect_frame(0x88b5);
}

#[test]
fn every_way_round_arrives_where_nothing_holds_it() {
    needs!(root);
    let world = World::new();
    for target in ["203.0.113.66", "2001:db8::66"] {
        let bare = |words: &[&str]| world.bare(&[&[world.attack()], words].concat()).output();
        bare(&["fastopen-connect", target, "80", "http:x"]).succeeded().reached(target);
        bare(&["pktinfo", target, "9999", "2"]).succeeded().reached(target);
        bare(&["flood", target, "80", "3"]).succeeded().reached(target);
        bare(&["race", "sendto", target, "9999", "200000"]).succeeded().reached(target);
        bare(&["race", "connect", target, "80", "2000"]).succeeded().reached(target);
        bare(&["race", "dup", target, "9999", "200000"]).succeeded().reached(target);
    }
    let out = world.bare(&[world.attack(), "addrform", "203.0.113.66", "9999"]).output();
    out.succeeded().reached("203.0.113.66");
    for call in ["clone3", "getfd", "open-by-handle", "perf"] {
        // They are there, and take no offence but at their arguments.
        let out = world.bare(&[world.attack(), "syscall", call]).output();
        out.expect(!["EPERM", "ENOSYS"].iter().any(|it| out.finding()["errno"] == *it), call);
    }
}

#[test]
fn every_option_works_where_nothing_refuses_it_and_groups_are_joined_on_the_wire() {
    needs!(root);
    let world = World::new();
    for option in OPTIONS {
        world.bare(&[world.attack(), "option", option, "2"]).output().succeeded();
    }
    // The kernel reports a group in its own time.
    for (join, routers) in [("join4", "224.0.0.22"), ("join6", "ff02::16")] {
        world.bare(&[world.attack(), "option", join, "2"]).output().succeeded();
        let routers = routers.parse().ok();
        eventually("the group is reported", || {
            world.packets().iter().any(|packet| packet.target == routers)
        });
    }
}

#[test]
fn servers_that_speak_first_or_echo_do_so() {
    needs!(root);
    let world = World::new();
    let banner = world.bare(&[world.attack(), "tcp", "203.0.113.10", "22", "read"]).output();
    banner.says("SSH-2.0-simulated");
    let echo = world.bare(&[world.attack(), "tcp", "2001:db8::10", "7", "send:hello"]).output();
    echo.says("hello");
}

#[test]
fn fifty_worlds_stand_side_by_side() {
    needs!(root);
    let worlds: Vec<World> = (0..50).map(|_| World::new()).collect();
    std::thread::scope(|scope| {
        for (number, world) in worlds.iter().enumerate() {
            scope.spawn(move || {
                let address = format!("198.51.100.{number}");
                let attack = [world.attack(), "tcp", &address, "80", "http:x"];
                let out = world.bare(&attack).output();
                out.succeeded().reached(&address);
                let strays =
                    out.packets.iter().filter(|packet| packet.target != address.parse().ok());
                out.expect(strays.count() == 0, "no other world's packets are seen");
            });
        }
    });
}

#[test]
fn a_world_leaves_nothing_behind() {
    needs!(root);
    let world = World::new();
    let folder = world.folder().to_owned();
    let netns = world.host().netns().to_owned();
    assert!(folder.exists());
    drop(world);
    assert!(!folder.exists());
    assert!(fs::metadata(netns).is_err());
}

#[test]
fn what_a_killed_test_left_is_cleared_up_and_what_a_living_one_has_is_not() {
    needs!(root, bpf);
    let world = World::new();
    let ground = Ground::below(&world);
    let mut dead = Command::new("true").spawn().expect("it starts");
    dead.wait().expect("it ends");
    let root = PathBuf::from(cgroup2().expect("needed"));
    let left = root.join(format!("{FOREIGN}{}-0", dead.id()));
    fs::create_dir_all(left.join("boundary-1/usher")).expect("root may");
    // Another test may be the one that clears it up.
    clear_up(&root);
    assert!(!left.exists(), "{left:?} is still there");
    assert!(ground.folder.exists(), "this test lives");
}
