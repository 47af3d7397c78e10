//! The kernel half as an object: what it asks of the oldest kernel.

use std::io::Write as _;

use super::*;

/// The object, parsed; none in a build without bpf-linker, which says so.
fn object() -> Option<Object> {
    if OBJECT.is_empty() {
        println!("skipped: built without the kernel half");
        return None;
    }
    Some(Object::parse(OBJECT).expect("the kernel half parses"))
}

#[test]
fn every_program_of_the_contract_is_there_and_no_other() {
    let Some(object) = object() else { return };
    let mut found: Vec<&str> = object.programs.keys().map(String::as_str).collect();
    let mut expected = PROGRAMS.to_vec();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn every_program_has_a_hook_of_its_own() {
    let hooks: HashSet<u32> =
        PROGRAMS.iter().filter_map(|name| numbers(name)).map(|n| n.1).collect();
    assert_eq!(hooks.len(), PROGRAMS.len());
}

#[test]
fn every_map_has_the_size_that_this_half_means() {
    let Some(object) = object() else { return };
    let sizes = [
        (maps::DOORS, 4, size_of::<Doors>()),
        (maps::MARKS, 4, size_of::<Mark>()),
        (maps::TARGETS, 4, size_of::<Flow>()),
        (maps::FLOWS, size_of::<FlowKey>(), size_of::<Flow>()),
        (maps::LOST, 4, size_of::<u64>()),
    ];
    for (name, key, value) in sizes {
        let map = &object.maps[name];
        assert_eq!((map.key_size() as usize, map.value_size() as usize), (key, value), "{name}");
    }
    // Those, and the ring, which has neither.
    assert_eq!(object.maps.len(), sizes.len() + 1);
}

#[test]
fn no_instruction_is_newer_than_linux_5_10() {
    let Some(object) = object() else { return };
    for function in object.functions.values() {
        for instruction in &function.instructions {
            let (class, mode) = (instruction.code & 0x07, instruction.code & 0xe0);
            // BPF_STX | BPF_ATOMIC: only a plain addition was there before 5.12.
            let atomic = class == 0x03 && mode == 0xc0 && instruction.imm != 0;
            // BPF_LDX | BPF_MEMSX came with 6.6, and with it BPF_JMP32 | BPF_JA.
            let newer = (class == 0x01 && mode == 0x80) || instruction.code == 0x06;
            assert!(!atomic && !newer, "{}: {instruction:?}", function.name);
        }
    }
}

#[test]
fn no_helper_is_newer_than_linux_5_10() {
    /// `bpf_redirect_peer`, the last helper of 5.10.
    const LAST: i32 = 155;
    let Some(object) = object() else { return };
    for function in object.functions.values() {
        // BPF_JMP | BPF_CALL with no source register: a helper by number.
        let calls = function.instructions.iter().filter(|i| i.code == 0x85 && i.src_reg() == 0);
        for call in calls {
            assert!(call.imm > 0 && call.imm <= LAST, "{}: helper {}", function.name, call.imm);
        }
    }
}

#[test]
fn a_long_log_is_told_by_its_end() {
    assert_eq!(last_lines("a\nb\nc\nd\ne"), "\n  b\n  c\n  d\n  e");
    assert_eq!(last_lines(""), "");
}

#[test]
fn every_program_passes_the_verifier() {
    if OBJECT.is_empty() || !nix::unistd::geteuid().is_root() {
        let promise = std::env::var("BOUNDARY_TEST_PROMISE").unwrap_or_default();
        assert!(!promise.split(',').any(|it| it == "bpf"), "bpf was promised and is not there");
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        return writeln!(io::stderr(), "skipped: {test} needs bpf").unwrap();
    }
    match Kernel::load() {
        Ok(kernel) => assert_eq!(kernel.programs.len(), PROGRAMS.len()),
        Err(Error::Program { name, log, source }) => panic!("{name}: {source}\n{log}"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn no_program_copies_by_a_loop() {
    /// `BPF_PSEUDO_CALL`: a call to a function of the object. There are three, and all are loops
    /// over bytes that the compiler puts in where a record is filled or copied whole.
    const OWN: u8 = 1;
    let Some(object) = object() else { return };
    for (name, program) in &object.programs {
        let function = &object.functions[&program.function_key()];
        let calls = |i: &&aya_obj::generated::bpf_insn| i.code == 0x85 && i.src_reg() == OWN;
        assert_eq!(function.instructions.iter().filter(calls).count(), 0, "{name}");
    }
}
