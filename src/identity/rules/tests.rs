//! Features of the rules, as text: what a document makes of an identifier, or why it is refused.

use super::*;
use crate::identity::{Email, Key, PhoneNumber};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;

const BLOCKED_EXAMPLE: &str = include_str!("../../../projections/contact/blocked.example.toml");

/// Rules of these members of `[email]` and `[phone]`: `case='sensitive'; links=false`.
fn rules(email: &str, phone: &str) -> Rules {
    Rules::parse(&document(email, phone)).unwrap()
}

fn document(email: &str, phone: &str) -> String {
    let lines = |members: &str| members.replace("; ", "\n");
    format!("name='n'\nversion=1\n[email]\n{}\n[phone]\n{}\n", lines(email), lines(phone))
}

fn refused(document: &str) -> String {
    Rules::parse(document).unwrap_err().to_string()
}

/// The normal form, with a `!` before it if it never links.
fn told(key: &Key) -> String {
    let mark = if key.is_link() { "" } else { "!" };
    format!("{mark}{}", key.as_str())
}

fn email_key(rules: &Rules, email: &str) -> String {
    told(&rules.email.key(&Email::parse(email).unwrap().unwrap()))
}

fn phone_key(rules: &Rules, number: &str) -> String {
    told(&rules.phone.key(&PhoneNumber::parse(number).unwrap().unwrap()))
}

/// Given the members of `[email]`, these emails have these keys.
fn check_emails(members: &str, expected: &[(&str, &str)]) {
    let rules = rules(members, "format='digits'");
    for (email, key) in expected {
        assert_eq!(email_key(&rules, email), *key, "{email} under {members}");
    }
}

/// As `check_emails`, for the members of `[phone]`.
fn check_numbers(members: &str, expected: &[(&str, &str)]) {
    let rules = rules("case='insensitive'", members);
    for (number, key) in expected {
        assert_eq!(phone_key(&rules, number), *key, "{number} under {members}");
    }
}

#[test]
fn case_says_where_upper_and_lower_case_count() {
    check_emails("case='insensitive'", &[("Ann@X.org", "ann@x.org"), ("ÄNN@x", "änn@x")]);
    check_emails("case='domain-only'", &[("Ann@X.org", "Ann@x.org")]);
    check_emails("case='sensitive'", &[("Ann@X.org", "Ann@X.org")]);
}

#[test]
fn a_subaddress_is_stripped_where_something_stands_before_it() {
    check_emails(
        "case='insensitive'; subaddress='strip'",
        &[
            ("ann+shop@x.org", "ann@x.org"),
            ("ann+a+b@x.org", "ann@x.org"),
            ("+ann@x.org", "+ann@x.org"),
            ("+ann+shop@x.org", "+ann@x.org"),
            ("\"ann+shop\"@x.org", "\"ann+shop\"@x.org"),
            ("ü+shop@x.org", "ü@x.org"),
        ],
    );
    check_emails("case='insensitive'", &[("ann+shop@x.org", "ann+shop@x.org")]);
}

#[test]
fn gmail_ignores_dots_and_has_two_domains() {
    check_emails(
        "case='insensitive'; provider_rules='gmail'",
        &[
            ("A.nn@GoogleMail.com", "ann@gmail.com"),
            ("a.nn@x.org", "a.nn@x.org"),
            ("\"a.nn\"@gmail.com", "\"a.nn\"@gmail.com"),
            ("..@gmail.com", "..@gmail.com"),
        ],
    );
    check_emails(
        "case='sensitive'; provider_rules='gmail'",
        &[("A.nn@Googlemail.COM", "Ann@gmail.com")],
    );
}

#[test]
fn a_domain_is_compared_as_received_or_in_its_ascii_form() {
    check_emails(
        "case='sensitive'; domain='idna'",
        &[
            ("Ann@MÜLLER.example", "Ann@xn--mller-kva.example"),
            ("Ann@xn--mller-kva.example", "Ann@xn--mller-kva.example"),
            ("Ann@X.org", "Ann@x.org"),
            // What has no ASCII form is handled as received.
            ("Ann@[IPv6:::1]", "Ann@[IPv6:::1]"),
            ("ann@xn--Ü", "ann@xn--Ü"),
            ("ann@x＠y", "ann@x＠y"),
        ],
    );
    check_emails("case='insensitive'; domain='idna'", &[("ann@xn--Ü", "ann@xn--ü")]);
    check_emails("case='insensitive'", &[("Ann@MÜLLER.example", "ann@müller.example")]);
    check_emails(
        "case='insensitive'; domain='idna'; provider_rules='gmail'",
        &[("a.nn@ＧＭＡＩＬ.com", "ann@gmail.com")],
    );
}

#[test]
fn what_is_told_not_to_link_never_does_and_keeps_its_normal_form() {
    check_emails("case='insensitive'; links=false", &[("Ann@x.org", "!ann@x.org")]);
    check_numbers("format='digits'; links=false", &[("030 1", "!0301")]);
}

#[test]
fn blocked_emails_never_link_however_they_are_written() {
    check_emails(
        "case='insensitive'; blocked=['Test@Test.com', 'NoReply@*']",
        &[
            ("test@TEST.com", "!test@test.com"),
            ("noreply@x.org", "!noreply@x.org"),
            ("test@test.com.org", "test@test.com.org"),
        ],
    );
    check_emails(
        "case='sensitive'; blocked=['Test@Test.com', 'NoReply@*']",
        &[("test@test.com", "test@test.com"), ("NoReply@x", "!NoReply@x")],
    );
    check_emails(
        "case='domain-only'; blocked=['No*@*.X.org']",
        &[("Noreply@A.x.ORG", "!Noreply@a.x.org"), ("noreply@a.x.org", "noreply@a.x.org")],
    );
    check_emails(
        "case='insensitive'; domain='idna'; provider_rules='gmail'; subaddress='strip'; \
         blocked=['t.est+1@googlemail.com', 'no*@googlemail.com', 'no*@müller.example']",
        &[
            ("test@gmail.com", "!test@gmail.com"),
            ("n.o.reply@gmail.com", "!noreply@gmail.com"),
            ("noreply@xn--mller-kva.example", "!noreply@xn--mller-kva.example"),
        ],
    );
    check_emails(
        "case='insensitive'; blocked=['No*[@]X.org']",
        &[("noreply@x.org", "!noreply@x.org"), ("noreply@y.org", "noreply@y.org")],
    );
    // In normal form the full-width asterisks are plain ones.
    check_emails(
        "case='insensitive'; domain='idna'; blocked=['no*@\u{ff0a}\u{ff0a}.org']",
        &[
            ("noreply@\u{ff0a}\u{ff0a}.org", "!noreply@**.org"),
            ("noreply@ab.org", "noreply@ab.org"),
        ],
    );
}

#[test]
fn globs_that_block_nothing_are_found() {
    let idle = |email: &str, phone: &str| rules(email, phone).idle_globs();
    let email =
        "case='insensitive'; blocked=['No*', '?@X.org', '[!a]*', '[@]x*', 'no[abc]', '[]@][!@]']";
    assert_eq!(idle(email, "format='digits'"), ["no[abc]"]);
    let email = "case='domain-only'; blocked=['*.X.org', 'No*', 'A*@B.org', '*X?', '*[Xx].org']";
    assert_eq!(idle(email, "format='digits'"), ["*.X.org"]);
    let email = "case='sensitive'; blocked=['*.X.org']";
    assert!(idle(email, "format='digits'").is_empty());
    let globs = "['+1*', '*+1?', '[+1]5*', '0800-*', 'tel*', '[a-z]*', '*1+?', '*', '1[!0-9]*']";
    let email = "case='sensitive'";
    for format in ["digits", "e164"] {
        let phone = format!("format='{format}'; blocked={globs}");
        assert_eq!(idle(email, &phone), ["*1+?", "0800-*", "1[!0-9]*", "[a-z]*", "tel*"]);
    }
    let phone = format!("format='exact'; blocked={globs}");
    assert_eq!(idle(email, &phone), ["[a-z]*", "tel*"]);
}

#[test]
fn blocked_numbers_never_link_however_they_are_written() {
    check_numbers(
        "format='digits'; blocked=['000-000', '+1555*']",
        &[("(000) 000", "!000000"), ("+1 555 1", "!+15551"), ("555 1", "5551")],
    );
    check_numbers(
        "format='e164'; default_region='US'; blocked=['650 253 0000']",
        &[("+1 650-253-0000", "!+16502530000")],
    );
}

#[test]
fn exact_numbers_are_compared_byte_for_byte_and_digits_on_their_digits() {
    check_numbers("format='exact'", &[(" (030) 1 ", "(030) 1"), ("++1+2", "++1+2")]);
    check_numbers(
        "format='digits'",
        &[
            ("+49 (0)30-12.34", "+490301234"),
            ("(+49) 30", "+4930"),
            ("++1+2", "+12"),
            ("030 1", "0301"),
        ],
    );
}

#[test]
fn e164_numbers_are_compared_in_their_international_form() {
    check_numbers(
        "format='e164'; default_region='DE'",
        &[
            ("030 123456", "+4930123456"),
            ("+49 (0)30 123456", "+4930123456"),
            ("(+49) 30-12 34 56", "+4930123456"),
            ("0049 30 123456", "+4930123456"),
            ("+1 (650) 253-0000", "+16502530000"),
            ("+39 02 3661 8300", "+390236618300"),
            ("+999 1234567", "!+9991234567"),
        ],
    );
    check_numbers(
        "format='e164'; default_region='US'",
        &[
            ("(650) 253-0000", "+16502530000"),
            ("1 650 253 0000", "+16502530000"),
            ("011 49 30 123456", "+4930123456"),
        ],
    );
    check_numbers("format='e164'", &[("030 123456", "!030123456"), ("+4930123456", "+4930123456")]);
}

#[test]
fn a_number_is_what_the_library_takes_it_for() {
    check_numbers("format='e164'; default_region='BY'", &[("8 017 234 56 78", "+375172345678")]);
    check_numbers("format='e164'; default_region='AG'", &[("464-1234", "+12684641234")]);
    check_numbers("format='e164'; default_region='AR'", &[("011 15 2345-6789", "+5491123456789")]);
    // Known misreadings: a trunk prefix is taken off that is none.
    check_numbers(
        "format='e164'; default_region='RU'",
        &[("+7 800 123 45 67", "+7001234567"), ("810 49 89 123456", "+499123456")],
    );
    // Its E.164 text is read as another number in turn, which has too few digits to link.
    check_numbers(
        "format='e164'; require='possible'",
        &[("+7 88 812 345 67 89", "!+78123456789"), ("+7 812 345 67 89", "!+7123456789")],
    );
}

#[test]
fn what_does_not_meet_the_requirement_never_links_and_keeps_its_normal_form() {
    check_numbers(
        "format='exact'; require='parseable'; default_region='DE'",
        &[("+49 30-12", "+49 30-12"), ("+999 1-2", "!+999 1-2")],
    );
    check_numbers(
        "format='e164'; require='possible'; default_region='US'",
        &[("253-0000", "!+12530000"), ("200 000 0000", "+12000000000"), ("000", "!000")],
    );
    check_numbers(
        "format='digits'; require='valid'; default_region='US'",
        &[("200 000 0000", "!2000000000"), ("650 253 0000", "6502530000")],
    );
}

/// Whoever has ledgers with the default rules has this digest in them.
#[test]
fn the_default_rules_have_the_digest_that_they_always_had() {
    let rules = Rules::parse(DEFAULT_RULES).unwrap();
    let digest = "a8c477753941a1b4460e17faf14a14bed3daa1312e45e2ad544e737d7e933336";
    assert_eq!(rules.digest().as_str(), digest);
    assert_eq!(rules.normaliser(), None);
    let shortest = "version=1\nname='default'\nphone.format='digits'\nemail.case='insensitive'";
    assert_eq!(Rules::parse(shortest).unwrap().digest().as_str(), digest);
}

#[test]
fn comments_order_and_defaults_are_not_part_of_the_digest_and_meaning_is() {
    let digest = |email: &str, phone: &str| rules(email, phone).digest().as_str().to_owned();
    let same = |a: (&str, &str), b: (&str, &str)| digest(a.0, a.1) == digest(b.0, b.1);
    let plain = ("case='insensitive'", "format='digits'");
    assert!(same(
        plain,
        ("# hello; links=true; case='insensitive'", "links=true; format='digits'")
    ));
    assert!(same(
        ("case='insensitive'; blocked=['b@*', 'A@x', 'a@x']", plain.1),
        ("blocked=['a@X', 'B@*']; case='insensitive'", plain.1),
    ));
    assert!(same((plain.0, "format='e164'"), (plain.0, "require='parseable'; format='e164'")));
    let german = "default_region='DE'; format='e164'";
    assert!(same((plain.0, german), (plain.0, "# at home; format='e164'; default_region='DE'")));
    assert!(!same((plain.0, german), (plain.0, "default_region='AT'; format='e164'")));
    for (email, phone) in [
        ("case='sensitive'", "format='digits'"),
        ("case='insensitive'; links=false", "format='digits'"),
        ("case='insensitive'; subaddress='strip'", "format='digits'"),
        ("case='insensitive'; provider_rules='gmail'", "format='digits'"),
        ("case='insensitive'; domain='idna'", "format='digits'"),
        ("case='insensitive'; blocked=['a@x']", "format='digits'"),
        ("case='insensitive'", "format='digits'; links=false"),
        ("case='insensitive'", "format='digits'; require='parseable'"),
        ("case='insensitive'", "format='digits'; blocked=['1']"),
        ("case='insensitive'", "format='e164'"),
    ] {
        assert!(!same(plain, (email, phone)), "{email} {phone}");
    }
    let with_version = |version: &str| {
        let document = document(plain.0, plain.1).replace("version=1", version);
        Rules::parse(&document).unwrap().digest().clone()
    };
    assert_ne!(with_version("version=1"), with_version("version=2"));
}

#[test]
fn the_normaliser_is_named_where_the_rules_use_one() {
    let normaliser = |email: &str, phone: &str| rules(email, phone).normaliser().map(str::to_owned);
    let idna = "case='sensitive'; domain='idna'";
    assert_eq!(normaliser("case='sensitive'", "format='exact'"), None);
    let both = normaliser(idna, "format='e164'").unwrap();
    assert!(both.starts_with("idna 1.") && both.contains(", phonenumber 0."), "{both}");
    assert!(normaliser("case='sensitive'", "format='exact'; require='valid'").is_some());
}

#[test]
fn every_rule_set_that_ships_is_one() {
    let names = [DEFAULT_RULES, EXACT_RULES, E164_RULES, BLOCKED_EXAMPLE]
        .map(|document| Rules::parse(document).unwrap().name().to_owned());
    assert_eq!(names, ["default", "exact", "e164", "default-blocked"]);
    let example = Rules::parse(BLOCKED_EXAMPLE).unwrap();
    assert_eq!(email_key(&example, "NoReply@shop.org"), "!noreply@shop.org");
    assert_eq!(phone_key(&example, "000 000 0000"), "!0000000000");
    assert_eq!(email_key(&example, "info@shop.org"), "info@shop.org");
}

#[test]
fn a_fault_is_told_with_its_line_and_what_is_allowed() {
    let check = |email: &str, phone: &str, line: usize, parts: &[&str]| {
        let error = Rules::parse(&document(email, phone)).unwrap_err();
        assert_eq!(error.line, Some(line), "{error}");
        assert!(!error.message.contains('\n'), "{error}");
        for part in parts {
            assert!(error.message.contains(part), "{error} lacks {part}");
        }
    };
    let (email, phone) = ("case='sensitive'", "format='digits'");
    check("case='loud'", phone, 4, &["loud", "`sensitive`", "`insensitive`", "`domain-only`"]);
    check("case='sensitive'; volume=3", phone, 5, &["volume", "`subaddress`"]);
    check("case='sensitive'; links='no'", phone, 5, &["string \"no\"", "a boolean"]);
    check("links=true", phone, 3, &["`case`", "`domain-only`"]);
    check("case='sensitive'; blocked=[; 'a@x',; 'nobody']", phone, 7, &["nobody", "an email"]);
    check("case='sensitive'; blocked=['a[']", phone, 5, &["invalid glob \"a[\"", "[abc]"]);
    for glob in ["a**@x", "***"] {
        let blocked = format!("case='sensitive'; blocked=['{glob}']");
        check(&blocked, phone, 5, &[&format!("{glob:?}: ** is not allowed; use *")]);
    }
    check("case='sensitive'; blocked=[3]", phone, 5, &["integer `3`", "a string"]);
    check(email, "format='e164'; default_region='XX'", 7, &["\"XX\"", "ISO 3166"]);
    check(email, "format='e164'; default_region='001'", 7, &["\"001\"", "ISO 3166"]);
    check(email, "format='digits'; default_region='US'", 7, &["`e164`", "`require`"]);
    check(email, "format='digits'; blocked=['call me']", 7, &["call me", "a phone number"]);
    check(email, "format='digits'; require='good'", 7, &["good", "`parseable`", "`valid`"]);
    check(email, "format='digits'; format='exact'", 7, &["duplicate key"]);
}

#[test]
fn a_document_has_a_name_a_version_and_both_tables() {
    let rest = "[email]\ncase='sensitive'\n[phone]\nformat='digits'";
    let with = |head: &str| refused(&format!("{head}\n{rest}"));
    assert!(with("version=1").contains("missing field `name`"));
    assert!(with("name='n'").contains("missing field `version`, expected a whole number"));
    assert!(with("name='n'\nversion=0").starts_with("line 2: invalid `version` 0, expected"));
    for wrong in ["'1'", "1.0", "true", "[1]"] {
        let said = with(&format!("name='n'\nversion={wrong}"));
        assert!(said.starts_with("line 2: invalid type: "), "{said}");
        assert!(said.ends_with(", expected a whole number from 1"), "{said}");
    }
    assert!(
        refused("name='n'\nversion=1\nemail=1")
            .ends_with("expected a table [email] that says at least `case`")
    );
    assert!(with("name='n'\nversion=3000000000").starts_with("line 2: "));
    assert!(with("name=''\nversion=1").starts_with("line 1: invalid `name`, expected"));
    assert!(with("name=\"a\\nb\"\nversion=1").starts_with("line 1: "));
    assert!(with("name='n'\nversion=1\nauthor='me'").starts_with("line 3: unknown field"));
    assert!(refused("name='n'\nversion=1\n[email]\ncase='sensitive'").contains("[phone]"));
    assert!(refused("name = ").starts_with("line 1: "));
}

/// What the parser of emails accepts, rich in what rules look at.
fn any_email() -> impl Strategy<Value = String> {
    let local = prop_oneof![
        "[aA+.\"ÄΣİ]{1,6}",
        "\"[a+. @]{1,4}\"",
        "\\PC{1,8}".prop_filter("no local part", |local| !local.is_empty()),
    ];
    let domain = prop_oneof![
        Just("Gmail.com".to_owned()),
        Just("googlemail.com".to_owned()),
        Just("ＧＭＡＩＬ.com".to_owned()),
        "(xn--)?[aAzÄßİΣ.＠\u{ad}-]{1,8}",
        "\\PC{1,8}",
    ];
    let email = (local, domain).prop_map(|(local, domain)| format!("{local}@{domain}"));
    email.prop_filter_map("not an email", |email| {
        Email::parse(&email).ok().flatten().map(|email| email.as_str().to_owned())
    })
}

/// What may stand before a number: country codes, trunk prefixes, what is dialled for abroad.
const STARTS: [&str; 14] = [
    "+1", "+49 0", "+7 8", "+7 88", "+375 8", "+54 9", "+3906", "0", "00", "8", "88", "011", "+",
    "",
];

/// What the parser of phone numbers accepts, often with a real country code.
fn any_number() -> impl Strategy<Value = String> {
    let start = prop::sample::select(STARTS.to_vec());
    let number = (start, "[0-9 .()+-]{1,20}").prop_map(|(start, rest)| format!("{start}{rest}"));
    number.prop_filter_map("not a number", |number| {
        PhoneNumber::parse(&number).ok().flatten().map(|number| number.as_str().to_owned())
    })
}

fn any_email_rules() -> impl Strategy<Value = Rules> {
    let blocked = prop_oneof![Just("[]"), Just("['A*', '?@*', 'a@gmail.com', '*@GoogleMail.com']")];
    let options = (
        prop::sample::select(vec!["sensitive", "insensitive", "domain-only"]),
        prop::sample::select(vec!["keep", "strip"]),
        prop::sample::select(vec!["none", "gmail"]),
        prop::sample::select(vec!["as-received", "idna"]),
        blocked,
    );
    options.prop_map(|(case, subaddress, provider_rules, domain, blocked)| {
        rules(
            &format!(
                "case='{case}'; subaddress='{subaddress}'; provider_rules='{provider_rules}'; \
                 domain='{domain}'; blocked={blocked}"
            ),
            "format='exact'",
        )
    })
}

fn any_phone_rules(formats: Vec<&'static str>) -> impl Strategy<Value = Rules> {
    let requirements =
        vec!["", "; require='parseable'", "; require='possible'", "; require='valid'"];
    let options = (
        prop::sample::select(formats),
        prop::sample::select(requirements),
        prop::sample::select(vec!["", "US", "DE", "RU", "AG", "AR", "IT", "JP", "IL", "BR", "CX"]),
    );
    options.prop_map(|(format, require, region)| {
        let region = if region.is_empty() || (format != "e164" && require.is_empty()) {
            String::new()
        } else {
            format!("; default_region='{region}'")
        };
        rules("case='sensitive'", &format!("format='{format}'{require}{region}; blocked=['*00*']"))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    // Where this holds, whether a key links can be told from its text: keys with the same text
    // agree on it.
    #[test]
    fn the_normal_form_of_an_email_is_its_own(rules in any_email_rules(), email in any_email()) {
        let key = rules.email.key(&Email::recorded(&email));
        let again = rules.email.key(&Email::recorded(key.as_str()));
        prop_assert_eq!(told(&again), told(&key));
    }

    // Not so with e164: the library reads +7 88 812 345 67 89 as +7 812 345 67 89, and that as
    // +7 12 345 67 89.
    #[test]
    fn the_normal_form_of_a_number_is_its_own(
        rules in any_phone_rules(vec!["exact", "digits"]),
        number in any_number(),
    ) {
        let key = rules.phone.key(&PhoneNumber::recorded(&number));
        let again = rules.phone.key(&PhoneNumber::recorded(key.as_str()));
        prop_assert_eq!(told(&again), told(&key));
    }

    #[test]
    fn keys_are_made_of_anything(
        email in "\\PC{0,12}",
        number in "\\PC{0,12}",
        digits in "[+0-9]*",
    ) {
        for document in [DEFAULT_RULES, EXACT_RULES, E164_RULES, BLOCKED_EXAMPLE] {
            let rules = Rules::parse(document).unwrap();
            for number in [&number, &digits] {
                let identifiers = Identifiers::new(
                    Some(Email::recorded(&email)),
                    Some(PhoneNumber::recorded(number)),
                );
                let keys = rules.keys(identifiers.as_ref().unwrap());
                prop_assert!(keys == rules.keys(identifiers.as_ref().unwrap()));
            }
        }
    }
}

proptest! {
    // Fewer cases: the library compiles expressions anew where regions take turns.
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn numbers_with_the_same_normal_form_agree_on_whether_they_link(
        rules in any_phone_rules(vec!["exact", "digits", "e164"]),
        rest in "[0-9]{1,12}",
    ) {
        let mut links = HashMap::new();
        for start in STARTS {
            let mut number = format!("{start}{rest}");
            // Normal forms are numbers too: those that someone gives as they stand.
            for _ in 0..2 {
                let key = rules.phone.key(&PhoneNumber::recorded(&number));
                let known = *links.entry(key.as_str().to_owned()).or_insert(key.is_link());
                prop_assert_eq!(key.is_link(), known, "{}", key.as_str());
                number = key.as_str().to_owned();
            }
        }
    }

    #[test]
    fn no_digits_make_the_library_panic(
        rules in any_phone_rules(vec!["e164"]),
        digits in "[+]?[0-9]{0,40}",
    ) {
        rules.phone.key(&PhoneNumber::recorded(&digits));
    }
}

#[test]
fn a_digest_is_what_the_document_says_it_is() {
    let told = include_str!("../../../docs/rules.md");
    let rules = Rules::parse(DEFAULT_RULES).unwrap();
    let canonical =
        told.lines().map(str::trim).find(|line| line.starts_with("{\"email\":")).unwrap();
    let digest: String =
        Sha256::digest(canonical).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, rules.digest().as_str());
    assert!(told.contains(&digest));
}
