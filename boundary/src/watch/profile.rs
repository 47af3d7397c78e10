//! A CPU profile of this process in pprof's format, as `go tool pprof` reads it.
//!
//! Addresses are told with the files that they lie in; whoever reads it finds the names there. *Never*:
//! tells what is in memory: addresses, files and times alone.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message;

use crate::sys::sampler::Stacks;

/// After how much processor time it is looked.
pub(super) const EVERY: Duration = Duration::from_millis(10);

/// `perftools.profiles.Profile`, as far as it is used.
#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
    #[prost(int64, repeated, tag = "13")]
    comment: Vec<i64>,
}

/// What a value is, and its unit: places in the table of strings.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

/// A stack, the innermost first, and what it counts for.
#[derive(Clone, PartialEq, Eq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
}

/// A file in memory.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Mapping {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    memory_start: u64,
    #[prost(uint64, tag = "3")]
    memory_limit: u64,
    #[prost(uint64, tag = "4")]
    file_offset: u64,
    #[prost(int64, tag = "5")]
    filename: i64,
}

/// An address.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    mapping_id: u64,
    #[prost(uint64, tag = "3")]
    address: u64,
}

/// The strings, in their order; the first is empty.
const STRINGS: [&str; 5] = ["", "samples", "count", "cpu", "nanoseconds"];

/// Writes what was seen in a while, by what is mapped where (proc(5)).
pub(super) fn written(stacks: &Stacks, took: Duration, maps: &str) -> Vec<u8> {
    let mut strings: Vec<String> = STRINGS.map(str::to_owned).into();
    let mapping = mappings(maps, &mut strings);
    let (sample, location) = samples(stacks, &mapping);
    let lost = (stacks.lost > 0).then(|| {
        strings.push(format!("{} samples found no room", stacks.lost));
        signed(strings.len() - 1)
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let cpu = ValueType { kind: 3, unit: 4 };
    let profile = Profile {
        sample_type: vec![ValueType { kind: 1, unit: 2 }, cpu],
        sample,
        mapping,
        location,
        string_table: strings,
        time_nanos: nanoseconds(now.saturating_sub(took)),
        duration_nanos: nanoseconds(took),
        period_type: Some(cpu),
        period: nanoseconds(EVERY),
        comment: lost.into_iter().collect(),
    };
    profile.encode_to_vec()
}

/// What is mapped to be executed, from files.
fn mappings(maps: &str, strings: &mut Vec<String>) -> Vec<Mapping> {
    let mut all = Vec::new();
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(range), Some(rights), Some(offset)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let range = range.split_once('-');
        let range = range.and_then(|(start, limit)| number(start).zip(number(limit)));
        let (Some((start, limit)), Some(offset)) = (range, number(offset)) else { continue };
        // Behind the device and the file's number.
        let Some(name) = words.nth(2).filter(|_| rights.contains('x')) else { continue };
        strings.push(name.to_owned());
        all.push(Mapping {
            id: all.len() as u64 + 1,
            memory_start: start,
            memory_limit: limit,
            file_offset: offset,
            filename: signed(strings.len() - 1),
        });
    }
    all
}

/// Each stack once with how often it was seen, and the addresses in them.
fn samples(stacks: &Stacks, mappings: &[Mapping]) -> (Vec<Sample>, Vec<Location>) {
    let (mut locations, mut ids) = (Vec::new(), HashMap::new());
    let (mut samples, mut places) = (Vec::<Sample>::new(), HashMap::new());
    for stack in &stacks.all {
        let found = stack.iter().enumerate().map(|(depth, address)| {
            // Callers go on behind their call.
            let address = (*address as u64).saturating_sub(u64::from(depth > 0));
            *ids.entry(address).or_insert_with(|| {
                let id = locations.len() as u64 + 1;
                let holds = |it: &&Mapping| (it.memory_start..it.memory_limit).contains(&address);
                let mapping_id = mappings.iter().find(holds).map_or(0, |it| it.id);
                locations.push(Location { id, mapping_id, address });
                id
            })
        });
        let location_id: Vec<u64> = found.collect();
        let place = *places.entry(location_id.clone()).or_insert_with(|| {
            samples.push(Sample { location_id, value: vec![0, 0] });
            samples.len() - 1
        });
        let step = [1, nanoseconds(EVERY)];
        let values = samples.get_mut(place).into_iter().flat_map(|sample| &mut sample.value);
        values.zip(step).for_each(|(value, step)| *value += step);
    }
    (samples, locations)
}

/// A time as the format has it.
fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// A place in a table.
fn signed(place: usize) -> i64 {
    i64::try_from(place).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
        1000-2000 r--p 00000000 fe:00 7 /usr/bin/boundary\n\
        2000-5000 r-xp 00001000 fe:00 7 /usr/bin/boundary\n\
        7000-8000 rw-p 00000000 00:00 0 \n\
        9000-a000 r-xp 00000000 00:00 0 [vdso]\n";

    #[test]
    fn a_stack_is_told_once_with_how_often_it_was_seen_and_where_its_addresses_are() {
        let inner = vec![0x2010, 0x2021, 0x9001];
        let all = vec![inner.clone(), vec![0x2010], inner];
        let profile = written(&Stacks { all, lost: 0 }, Duration::from_secs(3), MAPS);
        let profile = Profile::decode(&*profile).unwrap();
        let text = |place: i64| &*profile.string_table[usize::try_from(place).unwrap()];
        assert_eq!(text(0), "");
        let kinds = profile.sample_type.iter().map(|it| (text(it.kind), text(it.unit)));
        assert!(kinds.eq([("samples", "count"), ("cpu", "nanoseconds")]));
        assert_eq!((profile.duration_nanos, profile.period), (3_000_000_000, 10_000_000));
        let addresses = profile.location.iter().map(|it| (it.id, it.address, it.mapping_id));
        assert!(addresses.eq([(1, 0x2010, 1), (2, 0x2020, 1), (3, 0x9000, 2)]));
        let values = profile.sample.iter().map(|it| (&*it.location_id, &*it.value));
        let expected: [(&[u64], &[i64]); 2] =
            [(&[1, 2, 3], &[2, 20_000_000]), (&[1], &[1, 10_000_000])];
        assert!(values.eq(expected));
        let files: Vec<_> = profile.mapping.iter().map(|it| text(it.filename)).collect();
        assert_eq!(files, ["/usr/bin/boundary", "[vdso]"]);
        assert!(profile.comment.is_empty());
    }

    #[test]
    fn what_found_no_room_is_told() {
        let profile = written(&Stacks { all: Vec::new(), lost: 7 }, EVERY, "");
        let profile = Profile::decode(&*profile).unwrap();
        let place = usize::try_from(profile.comment[0]).unwrap();
        assert_eq!(profile.string_table[place], "7 samples found no room");
    }
}
