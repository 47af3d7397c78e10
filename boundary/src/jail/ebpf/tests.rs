//! Walls as a value: where doors may stand.

use super::*;

#[test]
fn doors_stand_on_loopback_only() {
    let (mut v4, mut v6) = (0, 0);
    for address in ["0.0.0.0:80", "127.0.0.2:80", "10.0.0.1:80", "[::]:80", "[::2]:80"] {
        let refused = place(address.parse().unwrap(), &mut v4, &mut v6);
        assert!(matches!(refused, Err(Error::Door(_))), "{address}");
    }
    place("127.0.0.1:80".parse().unwrap(), &mut v4, &mut v6).unwrap();
    place("[::1]:81".parse().unwrap(), &mut v4, &mut v6).unwrap();
    assert_eq!((v4, v6), (80, 81));
}

#[test]
fn a_second_door_of_one_kind_is_refused() {
    let (mut v4, mut v6) = (80, 0);
    let refused = place("127.0.0.1:81".parse().unwrap(), &mut v4, &mut v6);
    assert!(matches!(refused, Err(Error::Door(_))));
}

#[test]
fn the_probe_answers_yes_or_says_what_is_refused() {
    let is_root = nix::unistd::geteuid().is_root();
    match probe() {
        Answer::Yes => assert!(is_root, "only root may raise walls in the tests"),
        Answer::Refused { primitive, source } => {
            assert!(!is_root && source.raw_os_error().is_some(), "{primitive}: {source}");
        }
        Answer::Unknown(error) => {
            assert!(matches!(error, Error::Kernel(kernel::Error::Stub)), "{error}");
        }
    }
}
