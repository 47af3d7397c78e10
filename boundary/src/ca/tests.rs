//! What clients expect of a leaf (escapes E-1, E-2), read back by another hand.

use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::*;

use super::*;

fn host(text: &str) -> Host {
    Host::parse(text).unwrap()
}

/// Reads one certificate.
fn read<'a>(der: &'a CertificateDer<'_>) -> X509Certificate<'a> {
    X509Certificate::from_der(der).unwrap().1
}

fn extension<'a>(
    certificate: &'a X509Certificate<'_>,
    wanted: impl Fn(&ParsedExtension<'a>) -> bool,
) -> &'a X509Extension<'a> {
    let mut found = certificate.extensions().iter().filter(|one| wanted(one.parsed_extension()));
    let extension = found.next().expect("the extension is there");
    assert!(found.next().is_none(), "and once");
    extension
}

/// The subject key identifier.
fn own_id(certificate: &X509Certificate<'_>) -> Vec<u8> {
    let found = certificate.extensions().iter().find_map(|one| {
        if let ParsedExtension::SubjectKeyIdentifier(id) = one.parsed_extension() {
            return Some(id.0.to_vec());
        }
        None
    });
    found.expect("a subject key identifier")
}

#[test]
fn the_authority_is_one_and_says_so() {
    let authority = Authority::new().unwrap();
    let certificate = read(&authority.certificate);
    assert_eq!(certificate.subject().to_string(), "CN=boundary session CA");
    let constraints = certificate.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    let usage = certificate.key_usage().unwrap().unwrap();
    assert!(usage.value.key_cert_sign() && !usage.value.digital_signature());
    let pem = CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes()).unwrap();
    assert_eq!(pem, authority.certificate);
    assert!(!format!("{authority:?}").contains("key"));
}

#[test]
fn a_leaf_has_what_clients_ask_for() {
    let authority = Authority::new().unwrap();
    let leaf = authority.leaf(&host("www.example.com")).unwrap();
    assert_eq!(leaf.cert.len(), 2, "the chain includes the authority");
    assert_eq!(leaf.cert[1], authority.certificate);
    let (issuer, certificate) = (read(&leaf.cert[1]), read(&leaf.cert[0]));
    assert_eq!(certificate.subject().to_string(), "CN=www.example.com");
    assert_eq!(certificate.issuer(), issuer.subject());
    assert!(!certificate.is_ca());
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && !usage.client_auth);
    let usage = certificate.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign());
    // The leaf's AKI is the authority's SKI, and the leaf has a SKI of its own.
    let aki =
        extension(&certificate, |one| matches!(one, ParsedExtension::AuthorityKeyIdentifier(_)));
    let ParsedExtension::AuthorityKeyIdentifier(aki) = aki.parsed_extension() else { panic!() };
    assert_eq!(aki.key_identifier.as_ref().unwrap().0, own_id(&issuer));
    assert_ne!(own_id(&certificate), own_id(&issuer));
}

#[test]
fn names_and_addresses_stand_in_the_alternative_name() {
    let authority = Authority::new().unwrap();
    let rows: [(&str, GeneralName<'_>); 4] = [
        ("www.example.com", GeneralName::DNSName("www.example.com")),
        ("bücher.example", GeneralName::DNSName("xn--bcher-kva.example")),
        ("192.0.2.7", GeneralName::IPAddress(&[192, 0, 2, 7])),
        (
            "[2001:db8::1]",
            GeneralName::IPAddress(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        ),
    ];
    for (text, expected) in rows {
        let leaf = authority.leaf(&host(text)).unwrap();
        let certificate = read(&leaf.cert[0]);
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names, [expected], "{text}");
        assert!(!names.critical);
    }
}

#[test]
fn a_long_name_has_no_common_name_and_a_critical_alternative_name() {
    let authority = Authority::new().unwrap();
    let long = format!("{}.{}.example", "a".repeat(60), "b".repeat(60));
    let leaf = authority.leaf(&host(&long)).unwrap();
    let certificate = read(&leaf.cert[0]);
    assert_eq!(certificate.subject().iter().count(), 0);
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    assert!(names.critical);
    assert_eq!(names.value.general_names, [GeneralName::DNSName(&long)]);
}

#[test]
fn a_leaf_is_valid_within_its_authority_and_dated_back() {
    let authority = Authority::new().unwrap();
    let now = SystemTime::now();
    let certificate_of = |now| authority.leaf_at(&host("a.example"), now).unwrap();
    for now in [now, now + AUTHORITY_LIFE - Duration::from_hours(1)] {
        let leaf = certificate_of(now);
        let (issuer, certificate) = (read(&leaf.cert[1]), read(&leaf.cert[0]));
        let (outer, inner) = (issuer.validity(), certificate.validity());
        assert!(inner.not_before >= outer.not_before && inner.not_after <= outer.not_after);
        let now = i64::try_from(now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
        assert!(inner.not_before.timestamp() + 3590 <= now.unwrap());
        assert!(inner.not_after.timestamp() > now.unwrap());
    }
}

#[test]
fn a_leaf_is_kept_until_it_nears_its_end() {
    let authority = Authority::new().unwrap();
    let now = SystemTime::now();
    let serial = |leaf: &CertifiedKey| read(&leaf.cert[0]).raw_serial().to_vec();
    let first = authority.leaf_at(&host("a.example"), now).unwrap();
    let same = authority.leaf_at(&host("A.example."), now + Duration::from_hours(17)).unwrap();
    assert!(Arc::ptr_eq(&first, &same));
    let next = authority.leaf_at(&host("a.example"), now + Duration::from_hours(19)).unwrap();
    assert_ne!(serial(&first), serial(&next));
    let other = authority.leaf_at(&host("b.example"), now).unwrap();
    assert_ne!(serial(&first), serial(&other));
}

#[test]
fn the_cache_has_a_bound_and_forgets_the_longest_unused() {
    let mut leaves = Leaves::default();
    let name = |index: usize| host(&format!("h{index}.example"));
    let first = leaves.place(&name(0));
    let second = leaves.place(&name(1));
    for index in 2..MOST_LEAVES {
        leaves.place(&name(index));
    }
    assert!(Arc::ptr_eq(&first, &leaves.place(&name(0))), "used a moment ago");
    leaves.place(&name(MOST_LEAVES));
    assert_eq!(leaves.by_host.len(), MOST_LEAVES);
    assert!(Arc::ptr_eq(&first, &leaves.place(&name(0))));
    assert!(!Arc::ptr_eq(&second, &leaves.place(&name(1))));
}

#[test]
fn a_clock_that_is_set_back_gets_a_leaf_that_has_begun() {
    let authority = Authority::new().unwrap();
    let now = SystemTime::now();
    let first = authority.leaf_at(&host("a.example"), now).unwrap();
    for (back, same) in [(11, true), (13, false)] {
        let then = now - Duration::from_hours(back);
        let leaf = authority.leaf_at(&host("a.example"), then).unwrap();
        assert_eq!(Arc::ptr_eq(&first, &leaf), same, "{back} hours");
        let then = i64::try_from(then.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
        assert!(read(&leaf.cert[0]).validity().not_before.timestamp() < then.unwrap());
    }
}

#[test]
fn first_visits_at_once_mint_once() {
    const VISITORS: usize = 16;
    let authority = Authority::new().unwrap();
    let start = std::sync::Barrier::new(VISITORS);
    let leaves: Vec<_> = std::thread::scope(|scope| {
        let visit = || {
            start.wait();
            authority.leaf(&host("new.example")).unwrap()
        };
        let visitors: Vec<_> = (0..VISITORS).map(|_| scope.spawn(visit)).collect();
        visitors.into_iter().map(|visitor| visitor.join().unwrap()).collect()
    });
    assert!(leaves.iter().all(|leaf| Arc::ptr_eq(leaf, &leaves[0])));
}

#[test]
fn a_thousand_leaves_have_a_thousand_serials_and_each_takes_well_under_a_millisecond() {
    let authority = Authority::new().unwrap();
    let mut serials = std::collections::HashSet::new();
    // The quickest tells what it takes; the others, what else the machine does.
    let mut quickest = Duration::MAX;
    for index in 0..1000 {
        let name = host(&format!("h{index}.example"));
        let started = std::time::Instant::now();
        let leaf = authority.leaf(&name).unwrap();
        quickest = quickest.min(started.elapsed());
        let certificate = read(&leaf.cert[0]);
        // RFC 5280 §4.1.2.2: positive, 20 octets at the most.
        assert!(certificate.raw_serial()[0] < 0x80 && certificate.raw_serial().len() <= 20);
        assert!(serials.insert(certificate.raw_serial().to_vec()), "{index}");
    }
    assert!(quickest < Duration::from_millis(1), "{quickest:?}");
}

/// Whether rustls believes a leaf for a name, with the authority as its only root.
fn believes(authority: &Authority, leaf: &CertifiedKey, name: &str) -> bool {
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::pki_types::{ServerName, UnixTime};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let webpki =
        rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let (end, chain) = leaf.cert.split_first().unwrap();
    webpki.build().unwrap().verify_server_cert(end, chain, &name, &[], UnixTime::now()).is_ok()
}

#[test]
fn a_leaf_holds_for_its_host_and_for_nobody_else() {
    let authority = Authority::new().unwrap();
    let long = format!("{}.{}.example", "a".repeat(60), "b".repeat(60));
    for text in ["www.example.com", "under_score.example", "192.0.2.7", "2001:db8::1", &long] {
        let leaf = authority.leaf(&host(text)).unwrap();
        assert!(believes(&authority, &leaf, text), "{text}");
        assert!(!believes(&authority, &leaf, "other.example"), "{text}");
        assert!(!believes(&Authority::new().unwrap(), &leaf, text), "{text}");
    }
}
