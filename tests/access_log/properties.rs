//! What holds for every input.

use bytes::Bytes;
use palisade::sources::access_log::Message;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;

use super::mesh::{Owner, call, entry, graph, host, message, noon};
use super::{ingest, read};

const CALLERS: u16 = 3;
const SERVICES: u16 = 5;

/// Reads bytes as the server does; what is no message ends there.
fn read_bytes(owner: &Owner, bytes: Vec<u8>) {
    if let Ok(message) = Message::decode(Bytes::from(bytes)) {
        let _ = ingest(owner).message(message, noon());
    }
}

/// Bytes that get past the message's own frame, so that the list or an entry is what is garbage.
fn framed() -> impl Strategy<Value = Vec<u8>> {
    let depth = 0..4_usize;
    (depth, vec(any::<u8>(), 0..200)).prop_map(|(depth, garbage)| {
        let tags = [1, 1, 2];
        tags.iter().skip(3 - depth.min(3)).fold(garbage, |inner, tag| {
            let mut outer = Vec::new();
            prost::encoding::bytes::encode(*tag, &inner, &mut outer);
            outer
        })
    })
}

/// A message of real calls in which some bytes were overwritten.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let spots = vec((any::<prop::sample::Index>(), any::<u8>()), 1..8);
    spots.prop_map(|spots| {
        let mut bytes = message(vec![call(0, 0), call(1, 1), call(2, 2)]).encode_to_vec();
        for (spot, byte) in spots {
            let spot = spot.index(bytes.len());
            bytes[spot] = byte;
        }
        bytes
    })
}

/// What the graph knows when calls come in messages of `size`, and the owner learns after every `pause`-th.
fn knowledge(calls: &[(u16, u16)], size: usize, pause: usize) -> Vec<Vec<String>> {
    let mut owner = Owner::new(graph(CALLERS, SERVICES), 256);
    for (number, calls) in calls.chunks(size).enumerate() {
        let entries = calls.iter().map(|(from, to)| match to {
            to if *to < SERVICES => call(*from, *to),
            _ => entry("10.244.0.0", "outbound|80||*"),
        });
        read(&owner, &message(entries.collect()), noon());
        if number % pause == 0 {
            owner.learn();
        }
    }
    owner.learn();
    (0..CALLERS).map(|caller| owner.known(caller)).collect()
}

proptest! {
    #[test]
    fn no_bytes_stop_the_next_call_from_being_learned(
        bytes in prop_oneof![vec(any::<u8>(), 0..300), framed(), damaged()],
    ) {
        let mut owner = Owner::new(graph(CALLERS, SERVICES), 64);
        read_bytes(&owner, bytes);
        read(&owner, &message(vec![call(0, 4)]), noon());
        owner.learn();
        prop_assert!(owner.known(0).contains(&host(4)));
    }

    #[test]
    fn order_and_batches_make_no_difference(
        (calls, shuffled) in vec((0..CALLERS, 0..SERVICES + 1), 0..60)
            .prop_flat_map(|calls| (Just(calls.clone()), Just(calls).prop_shuffle())),
        size in 1..20_usize,
        pause in 1..5_usize,
    ) {
        prop_assert_eq!(knowledge(&calls, 1, 1), knowledge(&shuffled, size, pause));
    }
}
