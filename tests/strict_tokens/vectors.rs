//! Published vectors: Wycheproof's JSON Web Signatures and the examples of the RFCs, judged as a
//! token of an imported key is before its claims are read.

use std::collections::BTreeMap;

use portcullis::keys::{Algorithm, PublicJwk};
use portcullis::token::Rejection;
use portcullis::token::verify::vectors::judge;
use serde_json::Value;

use crate::harness::forge::encode;

/// Project Wycheproof, Apache-2.0; see `tests/vectors/NOTICE`.
const WYCHEPROOF: &str = include_str!("../vectors/json_web_signature_test.json");

/// What became of a vector, beside what it should become.
type Counts = BTreeMap<(&'static str, String), usize>;

/// The bare public half of a vector's key, when an imported key can have it and may sign with it.
fn public_half(group: &Value) -> Option<(Algorithm, PublicJwk)> {
    let key = &group["public"];
    let text = |name: &str| key[name].as_str().unwrap_or_default().to_owned();
    match (
        text("kty").as_str(),
        text("alg").as_str(),
        text("crv").as_str(),
    ) {
        ("EC", "ES256" | "", "P-256") => {
            Some((Algorithm::Es256, PublicJwk::ec(text("x"), text("y"))))
        }
        ("RSA", "RS256" | "", _) => Some((Algorithm::Rs256, PublicJwk::rsa(text("n"), text("e")))),
        ("OKP", "EdDSA" | "", "Ed25519") => Some((Algorithm::EdDsa, PublicJwk::ed25519(text("x")))),
        _ => None,
    }
}

fn verdict(token: &str, alg: Algorithm, jwk: &PublicJwk) -> String {
    match judge(token.as_bytes(), alg, jwk).expect("a key") {
        Ok(_payload) => "accepted".to_owned(),
        Err(rejection) => rejection.as_str().to_owned(),
    }
}

#[test]
fn wycheproof_json_web_signatures() {
    let file: Value = serde_json::from_str(WYCHEPROOF).expect("JSON");
    let groups = file["testGroups"].as_array().expect("groups");
    let (stand_in_alg, stand_in) = groups.iter().find_map(public_half).expect("a key");
    let (mut ours, mut others, mut misused) = (Counts::new(), Counts::new(), Counts::new());
    let mut odd = Vec::new();
    for group in groups {
        let half = public_half(group);
        let is_for_encryption = group["public"]["use"] == "enc"
            || group["public"]["key_ops"] == serde_json::json!(["encrypt"]);
        for test in group["tests"].as_array().expect("tests") {
            let token = test["jws"].as_str().expect("a token");
            let result = match test["result"].as_str() {
                Some("valid") => "valid",
                Some("invalid") => "invalid",
                other => panic!("{other:?}"),
            };
            let (counts, found) = match &half {
                Some((alg, jwk)) if is_for_encryption => {
                    // An import takes bare public halves only, so never this key as it stands.
                    // Whoever strips its `use` says that it may sign, and the signatures are good.
                    let whole = serde_json::from_value::<PublicJwk>(group["public"].clone());
                    assert!(whole.is_err(), "a JWK with a use is no bare public half");
                    assert_eq!(verdict(token, *alg, jwk), "accepted");
                    (&mut misused, "not_importable".to_owned())
                }
                Some((alg, jwk)) => (&mut ours, verdict(token, *alg, jwk)),
                // A key that no import takes: the header alone decides, under whatever key.
                None => (&mut others, verdict(token, stand_in_alg, &stand_in)),
            };
            if half.is_some() && !is_for_encryption && (result == "valid") != (found == "accepted")
            {
                odd.push((
                    test["tcId"].as_u64(),
                    test["comment"].clone(),
                    found.clone(),
                ));
            }
            *counts.entry((result, found)).or_default() += 1;
        }
    }
    println!("ours {ours:?}\nothers {others:?}\nmisused {misused:?}\nodd {odd:?}");
    // A token without a payload has no claims, so it is none: the one verdict that differs.
    assert_eq!(
        odd,
        [(
            Some(259),
            Value::from("emptyPayload"),
            "malformed".to_owned()
        )]
    );
    let counts = |expected: &[(&'static str, &str, usize)]| -> Counts {
        let counts = expected.iter();
        counts
            .map(|(result, found, n)| ((*result, (*found).to_owned()), *n))
            .collect()
    };
    assert_eq!(
        ours,
        counts(&[
            ("invalid", "alg_not_allowed", 1),
            ("invalid", "bad_signature", 244),
            ("invalid", "malformed", 17),
            ("valid", "accepted", 9),
            ("valid", "malformed", 1),
        ])
    );
    // What is no compact form of non-empty strict base64url is named first, whatever its algorithm.
    assert_eq!(
        others,
        counts(&[
            ("invalid", "alg_not_allowed", 66),
            ("invalid", "malformed", 23),
            ("valid", "alg_not_allowed", 29),
            ("valid", "malformed", 7),
        ])
    );
    assert_eq!(misused, counts(&[("invalid", "not_importable", 4)]));
    let total: usize = [&ours, &others, &misused]
        .iter()
        .flat_map(|counts| counts.values())
        .sum();
    assert_eq!(total, 401);
}

/// RFC 7515 A.2: RS256.
const RFC7515_A2: (&str, &str) = (
    "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
);

/// The payload of RFC 7515 A.2 and A.3, with the line ends of the text.
const JOE: &str =
    "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}";

#[test]
fn examples_of_the_rfcs() {
    let examples = [
        (
            "RFC 7515 A.2",
            Algorithm::Rs256,
            PublicJwk::rsa(RFC7515_A2.0.to_owned(), "AQAB".to_owned()),
            r#"{"alg":"RS256"}"#,
            JOE,
            RFC7515_A2.1,
        ),
        (
            "RFC 7515 A.3",
            Algorithm::Es256,
            PublicJwk::ec(
                "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU".to_owned(),
                "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0".to_owned(),
            ),
            r#"{"alg":"ES256"}"#,
            JOE,
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
        (
            "RFC 8037 A.4",
            Algorithm::EdDsa,
            PublicJwk::ed25519("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".to_owned()),
            r#"{"alg":"EdDSA"}"#,
            "Example of Ed25519 signing",
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        ),
    ];
    for (name, alg, jwk, header, payload, signature) in &examples {
        let token = |payload: &str| format!("{}.{}.{signature}", encode(header), encode(payload));
        let judged = judge(token(payload).as_bytes(), *alg, jwk).expect("a key");
        assert_eq!(judged, Ok(payload.as_bytes().to_vec()), "{name}");
        let changed = judge(token(&payload.to_uppercase()).as_bytes(), *alg, jwk);
        assert_eq!(
            changed.expect("a key"),
            Err(Rejection::BadSignature),
            "{name}"
        );
        // Under the key of another example its algorithm is not that key's.
        for (_, other, jwk, ..) in examples.iter().filter(|(_, other, ..)| other != alg) {
            let judged = judge(token(payload).as_bytes(), *other, jwk).expect("a key");
            assert_eq!(judged, Err(Rejection::AlgNotAllowed), "{name}");
        }
    }
}
