//! The verdicts of the tool that this one replaces, and where they differ here and why.

use super::Verdict::{self, Allow, Deny, Reject};
use super::{DomainMatch, verdict};

/// One row: the replaced tool's verdict, and ours.
struct Row {
    reference: Verdict,
    /// Under the default reading of `domain=`, where it is not that of `exact`.
    subdomains: Option<Verdict>,
    /// Where we differ in both readings, and why.
    here: Option<(Verdict, &'static str)>,
}

impl Row {
    fn check(&self, rules: &str, method: &str, url: &str) {
        let exact = self.here.map_or(self.reference, |(here, why)| {
            assert!(here != self.reference && !why.is_empty(), "not a difference");
            here
        });
        let subdomains = self.subdomains.unwrap_or(exact);
        assert_eq!(verdict(rules, method, url, DomainMatch::Exact), exact, "exact");
        assert_eq!(verdict(rules, method, url, DomainMatch::Subdomains), subdomains, "subdomains");
    }
}

macro_rules! rows {
    ($($name:ident($rules:expr, $method:literal, $url:literal) = $reference:ident
        $(, subdomains $subdomains:ident)? $(, here $here:ident: $why:expr)?;)*) => {$(
        #[test]
        fn $name() {
            let row = Row {
                reference: $reference,
                subdomains: [$(Some($subdomains),)? None][0],
                here: [$(Some(($here, $why)),)? None][0],
            };
            row.check($rules, $method, $url);
        }
    )*};
}

/// The default reading follows the documentation, `domain=` and everything below.
mod round_trips {
    use super::*;

    rows! {
        t01("method=GET,HEAD domain=github.com path=/wibble/wobble", "GET", "https://github.com/wibble/wobble") = Allow;
        t02("method=GET", "POST", "https://github.com/wibble/wobble") = Deny;
        t03("domain=github.com", "GET", "https://example.com/wibble/wobble") = Deny;
        t04("path=/wibble/wobble", "GET", "https://github.com/different/path") = Deny;
        t05("domain=github.com ; domain=example.com", "GET", "https://github.com/wibble/wobble") = Allow;
        t06("method=*", "POST", "https://github.com/wibble/wobble") = Allow;
        t07("domain=*", "GET", "https://example.com/wibble/wobble") = Allow;
        t08("path=*", "GET", "https://github.com/any/path/here") = Allow;
        t09("method=* domain=* path=*", "DELETE", "https://example.com/some/random/path") = Allow;
        t10("domain=github.com path=/wibble/wobble", "GET", "https://github.com/wibble/wobble?param1=value1&param2=value2") = Allow;
        t11("domain=*.github.com", "GET", "https://api.github.com/repos") = Allow;
        t12("domain=*.github.com", "GET", "https://github.com/repos") = Deny;
        t13("domain=github.com", "GET", "https://api.github.com/repos") = Deny, subdomains Allow;
        t14("domain=github.com", "GET", "https://github.com/repos") = Allow;
        t15("domain=github.*", "GET", "https://github.com/repos") = Reject;
        t16("domain=github.*.com", "GET", "https://github.api.com/repos") = Allow;
        t17("domain=*.github.com", "GET", "https://v1.api.github.com/repos") = Allow;
        t18("path=/api/*/users", "GET", "https://github.com/api/v1/users") = Allow;
        t19("path=/*/users", "GET", "https://github.com/api/users") = Allow;
        t20("path=/api/*/users", "GET", "https://github.com/api/../admin/users") = Deny;
        t21("path=/api/v1/*", "GET", "https://github.com/api/v1/users") = Allow;
        t22("path=/api/*", "GET", "https://github.com/api/v1/users/123/details") = Allow;
        t23("path=/api", "GET", "https://github.com/api/users") = Deny;
        t24("path=/wibble/wobble,/wibble/wobble/*", "GET", "https://github.com/wibble/wobble/sub") = Allow;
        t25("path=/api/v1/*,/api/v2/*", "GET", "https://example.com/api/v1/users") = Allow;
        t26("path=/api/v1/*,/api/v2/*", "GET", "https://example.com/api/v2/items") = Allow;
        t27("path=/api/v1/*,/api/v2/*", "GET", "https://example.com/api/v3/other") = Deny;
        t28("domain=example.com", "GET", "example.com") = Allow;
        t29("domain=jsonplaceholder.typicode.com", "GET", "jsonplaceholder.typicode.com") = Allow;
        t30("domain=dev.coder.com", "GET", "dev.coder.com") = Allow;
        t31("domain=*", "DELETE", "https://github.com/wibble/wobble") = Allow;
        t32("domain=github.com:8080", "DELETE", "https://github.com/wibble/wobble") = Reject;
        t33("domain=github.com", "DELETE", "https://github.com:8080/wibble/wobble") = Allow;
        t34("method=GET,POST,PUT domain=github.com path=/api/issues/*", "POST", "https://github.com/api/issues/123/edit") = Allow;
        t35("method=GET domain=github.com path=/api/issues/*", "GET", "https://github.com/api/issues") = Deny;
        t36("domain=github.com", "GET", "https://x.users.api.github.com") = Deny, subdomains Allow;
        t37("domain=api.*.com", "POST", "https://api.v1.github.com") = Deny;
        t38("domain=github.com", "GET", "https://github.com") = Allow;
        t39("domain=github.com", "POST", "https://github.com/user/repo") = Allow;
        t40("domain=github.com", "GET", "https://api.github.com") = Deny, subdomains Allow;
        t41("domain=github.com", "GET", "https://example.com") = Deny;
        t42("domain=github.com path=/api/issues/*", "GET", "https://github.com/api/issues/123") = Allow;
        t43("domain=github.com path=/api/issues/*", "POST", "https://github.com/api/issues/new") = Allow;
        t44("domain=github.com path=/api/issues/*", "GET", "https://github.com/api/users") = Deny;
        t45("domain=github.com path=/api/issues/*", "GET", "https://example.com/api/issues/123") = Deny;
        t46("method=GET,HEAD domain=github.com", "GET", "https://github.com/user/repo") = Allow;
        t47("method=GET,HEAD domain=github.com", "HEAD", "https://github.com/user/repo") = Allow;
        t48("method=GET,HEAD domain=github.com", "POST", "https://github.com/user/repo") = Deny;
        t49("method=GET,HEAD domain=github.com", "GET", "https://example.com") = Deny;
        t50("domain=*.github.com", "GET", "https://api.github.com") = Allow;
        t51("domain=*.github.com", "GET", "https://raw.github.com") = Allow;
        t52("domain=*.github.com", "GET", "https://github.com") = Deny;
        t53("domain=*.github.com", "GET", "https://example.com") = Deny;
        t54("method=GET,HEAD domain=api.github.com", "GET", "https://api.github.com/users") = Allow;
        t55("method=GET,HEAD domain=api.github.com", "HEAD", "https://api.github.com/repos") = Allow;
        t56("method=GET,HEAD domain=api.github.com", "POST", "https://api.github.com/users") = Deny;
        t57("method=GET,HEAD domain=api.github.com", "GET", "https://github.com") = Deny;
        t58("method=POST domain=api.example.com path=/users", "POST", "https://api.example.com/users") = Allow;
        t59("method=POST domain=api.example.com path=/users", "POST", "https://api.example.com/users/123") = Deny;
        t60("method=POST domain=api.example.com path=/users", "GET", "https://api.example.com/users") = Deny;
        t61("method=POST domain=api.example.com path=/users", "POST", "https://api.example.com/posts") = Deny;
        t62("method=POST domain=api.example.com path=/users", "POST", "https://example.com/users") = Deny;
        t63("method=*", "GET", "https://example.com") = Allow;
        t64("method=*", "POST", "https://example.com") = Allow;
        t65("method=*", "DELETE", "https://example.com") = Allow;
        t66("method=*", "PATCH", "https://example.com") = Allow;
        t67("method=*", "OPTIONS", "https://example.com") = Allow;
        t68("domain=*.pkgs.example", "GET", "https://registry.pkgs.example") = Allow;
        t69("domain=*.pkgs.example", "GET", "https://api.pkgs.example") = Allow;
        t70("domain=*.pkgs.example", "GET", "https://pkgs.example") = Deny;
        t71("domain=*.pkgs.example", "GET", "https://example.com") = Deny;
        t72("domain=registry.pkgs.example", "GET", "https://registry.pkgs.example") = Allow;
        t73("domain=registry.pkgs.example", "GET", "https://registry.pkgs.example/package") = Allow;
        t74("domain=registry.pkgs.example", "GET", "https://api.pkgs.example") = Deny;
        t75("domain=registry.pkgs.example", "GET", "https://pkgs.example") = Deny;
    }
}

/// Its component tests, as rule text.
mod components {
    use super::*;

    rows! {
        method_matches("method=GET", "GET", "https://example.com/api") = Allow;
        method_differs("method=POST", "GET", "https://example.com/api") = Deny;
        method_star("method=*", "PUT", "https://example.com/api") = Allow;
        domain_matches("domain=example.com", "DELETE", "https://example.com/api") = Allow;
        domain_differs("domain=example.org", "GET", "https://example.com/api") = Deny;
        domain_above("domain=example.com", "GET", "https://api.example.com/users") = Deny, subdomains Allow;
        wildcard_below("domain=*.example.com", "GET", "https://api.example.com/users") = Allow;
        wildcard_is_not_the_apex("domain=*.example.com", "GET", "https://example.com/users") = Deny;
        pattern_longer_than_host("domain=v1.api.example.com", "GET", "https://api.example.com/users") = Deny;
        wildcard_over_a_suffix("domain=*.com", "GET", "https://test.com/api") = Allow;
        two_wildcards("domain=*.*", "GET", "https://api.example.com/users") = Reject;
        path_matches("path=/api/users", "GET", "https://example.com/api/users") = Allow;
        path_differs("path=/api/posts", "GET", "https://example.com/api/users") = Deny;
        path_is_no_prefix("path=/api", "GET", "https://example.com/api/users/123") = Deny;
        path_star("path=/api/*", "GET", "https://example.com/api/users/123") = Allow;
        path_star_is_deep("path=/api/*", "GET", "https://example.com/api/foo/bar/baz") = Allow;
        inner_star_is_one("path=/api/*/foo", "GET", "https://example.com/api/users/admin/foo") = Deny;
        path_longer_than_request("path=/api/v1/users/profile", "GET", "https://example.com/api/v1/users") = Deny;
        inner_star("path=/api/*/profile", "GET", "https://example.com/api/users/profile") = Allow;
        two_stars("path=/*/*", "GET", "https://example.com/api/users/123") = Allow;
        all_agree("method=POST domain=api.com path=/users", "POST", "https://api.com/users") = Allow;
        all_but_the_method("method=POST domain=api.com path=/users", "GET", "https://api.com/users") = Deny;
        all_but_the_domain("method=POST domain=api.org path=/users", "POST", "https://api.com/users") = Deny;
        all_but_the_path("method=POST domain=api.com path=/posts", "POST", "https://api.com/users") = Deny;
        empty_rule("", "GET", "https://example.com/api/users") = Allow,
            here Reject: "an empty rule would widen a policy to everything by a slip";
        no_url("domain=example.com", "GET", "not-a-valid-url") = Deny;
        root_path("path=/", "GET", "https://example.com/") = Allow;
        localhost("domain=localhost", "GET", "http://localhost:8080/api") = Allow;
    }
}

/// What follows from its code.
mod edges {
    use super::*;

    const CASE: &str = "hosts are compared in lower case";
    const EMPTY: &str = "an empty element would widen the rule to every path";
    const ONE_SPELLING: &str = "both sides are brought to one spelling";

    rows! {
        host_case("domain=github.com", "GET", "https://GitHub.com/") = Deny, here Allow: CASE;
        rule_case("domain=GitHub.com", "GET", "https://github.com/") = Deny, here Allow: CASE;
        trailing_dot("domain=github.com", "GET", "https://github.com./") = Deny,
            here Allow: "a trailing dot names the same host";
        host_is_not_a_suffix("domain=github.com", "GET", "https://notgithub.com/") = Deny;
        host_is_not_a_prefix("domain=github.com", "GET", "https://github.com.evil.com/") = Deny;
        two_wildcards_need_two_labels("domain=*.*.com", "GET", "https://example.com/") = Deny;
        two_wildcards_take_more("domain=*.*.com", "GET", "https://a.b.c.com/") = Allow;
        leading_and_inner("domain=*.b.*.com", "GET", "https://x.y.b.z.com/") = Allow;
        inner_wildcard_has_no_subdomains("domain=github.*.com", "GET", "https://x.github.api.com/") = Deny;
        address_on_any_port("domain=127.0.0.1", "GET", "http://127.0.0.1:9999/") = Allow;
        wildcard_in_an_address("domain=*.0.0.1", "GET", "http://127.0.0.1/") = Allow,
            here Reject: "an address is compared as an address; it has no labels";
        star_and_loopback("domain=*", "GET", "http://[::1]:80/") = Allow,
            here Deny: "loopback only by a rule that names it";
        star_and_an_address("domain=*", "GET", "http://[2001:db8::1]:80/") = Allow;
        v6_in_domain("domain=[::1]", "GET", "http://[::1]/") = Reject;
        underscore_in_rule("domain=my_host.local", "GET", "http://my_host.local/") = Reject,
            here Allow: "such hosts exist and `domain=*.local` covers them";
        underscore_in_host("domain=*.local", "GET", "http://my_host.local/") = Allow;
        domain_twice("domain=a.com domain=b.com", "GET", "https://a.com.b.com/") = Allow,
            here Reject: "two domains would be read as one long name";
        domain_list("domain=a.com,b.com", "GET", "https://b.com/") = Reject,
            here Allow: "`domain=` takes a list here";
        wildcard_after_text("domain=a*.com", "GET", "https://ab.com/") = Reject;
        wildcard_before_text("domain=*a.com", "GET", "https://ba.com/") = Reject;
        scheme_in_domain("domain=https://a.com", "GET", "https://a.com/") = Reject;
        bare_host("github.com", "GET", "https://github.com/") = Reject;
        upper_case_key("Domain=a.com", "GET", "https://a.com/") = Reject;
        leading_blank(" domain=a.com", "GET", "https://a.com/") = Reject,
            here Allow: "blanks around a rule mean nothing";
        carriage_return("domain=a.com\r\n", "GET", "https://a.com/") = Reject,
            here Allow: "a rule from a file with such line ends is still the rule";
        no_blank_between("domain=*method=GET", "GET", "https://a.com/") = Allow,
            here Reject: "pairs are separated by blanks; what is left over is a mistake";
        lower_case_method("method=get", "GET", "https://a.com/") = Deny,
            here Allow: "methods are upper-cased on both sides";
        list_then_pair("method=GET, domain=a.com", "GET", "https://a.com/") = Allow,
            here Reject: "an empty element in a list";
        list_ends_in_comma("method=GET,", "GET", "https://a.com/") = Reject;
        methods_accumulate("method=GET method=POST", "POST", "https://a.com/") = Allow;
        root_is_the_root("path=/", "GET", "https://a.com/any/thing") = Allow,
            here Deny: "`path=/` is the path `/` only";
        empty_path("path=", "GET", "https://a.com/any/thing") = Allow, here Reject: EMPTY;
        path_list_ends_in_comma("path=/api,", "GET", "https://a.com/other") = Allow, here Reject: EMPTY;
        path_list_then_domain("path=/api, domain=a.com", "GET", "https://a.com/other") = Allow,
            here Reject: EMPTY;
        path_list_then_method("path=/api, method=GET", "GET", "https://a.com/other") = Allow,
            here Reject: EMPTY;
        request_has_a_slash("path=/api/users", "GET", "https://a.com/api/users/") = Deny;
        both_have_a_slash("path=/api/users/", "GET", "https://a.com/api/users/") = Deny,
            here Allow: "a path must be able to name itself";
        pattern_has_a_slash("path=/api/users/", "GET", "https://a.com/api/users") = Allow;
        star_takes_the_empty_segment("path=/api/*", "GET", "https://a.com/api/") = Allow;
        dot_segments("path=/api/*", "GET", "https://a.com/api/../admin") = Allow,
            here Deny: "dot segments are resolved before matching";
        encoded_slash_after_dots("path=/api/*", "GET", "https://a.com/api/..%2fadmin") = Allow,
            here Deny: "a server that decodes the slash would leave `/api`";
        encoded_slash_is_no_separator("path=/api/*", "GET", "https://a.com/api%2Fx") = Allow,
            here Deny: "`%2F` stays inside its segment";
        inner_star_takes_the_empty_segment("path=/api/*/users", "GET", "https://a.com/api//users") = Allow;
        star_inside_a_segment("path=/user*", "GET", "https://a.com/username") = Deny,
            here Reject: "a star inside a segment is no wildcard, and who writes it means one";
        escape_in_pattern("path=/hello%20world", "GET", "https://a.com/hello%20world") = Deny,
            here Allow: ONE_SPELLING;
        scoped_package("path=/@s%2Fb", "GET", "https://a.com/@s%2Fb") = Deny, here Allow: ONE_SPELLING;
        scoped_package_as_two("path=/@s/b", "GET", "https://a.com/@s%2Fb") = Allow,
            here Deny: "`%2F` stays inside its segment";
        path_case("path=/API", "GET", "https://a.com/api") = Deny;
        no_leading_slash("path=api/users", "GET", "https://a.com/api/users") = Allow;
        no_path_at_all("path=*", "GET", "https://a.com") = Deny,
            here Allow: "an empty path is `/`";
        star_and_the_root("path=*", "GET", "https://a.com/") = Allow;
        two_stars_need_two_segments("path=/*/*", "GET", "https://a.com/x") = Deny;
        paths_accumulate("path=/a path=/b", "GET", "https://a.com/b") = Allow;
        query_in_pattern("path=/api?x=1", "GET", "https://a.com/api?x=1") = Reject;
        fragment_in_pattern("path=/api#f", "GET", "https://a.com/api") = Reject;
        bad_escape_in_pattern("path=/a%ZZ", "GET", "https://a.com/a") = Reject;
        two_slashes_in_pattern("path=/api//users", "GET", "https://a.com/api//users") = Reject,
            here Allow: "`//` stays as it is, so a rule can say it";
        two_slashes_are_not_the_root("path=//", "GET", "https://a.com/") = Reject, here Deny: "the same";
        two_slashes_at_the_end("path=/a//", "GET", "https://a.com/a/") = Reject, here Deny: "the same";
        two_stars_in_pattern("path=/a/**", "GET", "https://a.com/a/b") = Reject;
        port_key("port=443", "GET", "https://a.com/") = Reject, here Allow: "`port=` is a key";
        unknown_key("deny=evil.com", "GET", "https://a.com/") = Reject;
    }

    #[test]
    fn domain_twice_covers_neither() {
        for url in ["https://a.com/", "https://b.com/"] {
            assert_eq!(
                verdict("domain=a.com domain=b.com", "GET", url, DomainMatch::Exact),
                Reject
            );
        }
    }
}
