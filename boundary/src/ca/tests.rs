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
    for now in [now, now + Duration::from_hours(29 * 24 + 23)] {
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
    let authority = Authority::new().unwrap();
    let leaf = authority.leaf(&host("kept.example")).unwrap();
    let mut leaves = Leaves::default();
    let later = SystemTime::now() + LEAF_LIFE;
    let name = |index: usize| host(&format!("h{index}.example"));
    for index in 0..MOST_LEAVES {
        leaves.keep(name(index), Arc::clone(&leaf), later);
    }
    assert!(leaves.find(&name(0), SystemTime::now()).is_some());
    leaves.keep(name(MOST_LEAVES), Arc::clone(&leaf), later);
    assert_eq!(leaves.by_host.len(), MOST_LEAVES);
    assert!(leaves.find(&name(0), SystemTime::now()).is_some(), "used a moment ago");
    assert!(leaves.find(&name(1), SystemTime::now()).is_none());
}
