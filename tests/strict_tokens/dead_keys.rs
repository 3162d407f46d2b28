//! Purged and retired keys can say why a token is refused, and never accept one.

use std::time::Duration;

use portcullis::keys::Algorithm;
use serde_json::json;

use crate::cases::{Case, Verdict, run};
use crate::harness::forge::encode;
use crate::holder::{Holder, House, Members};
use crate::signatures::small_order;

use Verdict::{Lacks, Refused};

/// Tokens of `holder` with every kind of defect; `whole` is what becomes of a good one, `forged` of
/// a bad signature, `breaks` of a good signature over claims that break `reason`.
fn defects(
    house: &House,
    holder: &Holder,
    whole: &'static str,
    forged: &'static str,
    breaks: impl Fn(&'static str) -> Verdict,
) -> Vec<Case> {
    let now = house.now();
    let claims = |issued: i64| {
        let claims = house.claims().with("iat", issued.to_string());
        claims.with("exp", (now + 1800).to_string())
    };
    // Issued before the key died, in every case of this file.
    let good = claims(now - 300);
    let whose = holder.name();
    let mut cases = Vec::new();
    let mut add = |name: &str, token: String, verdict: Verdict| {
        cases.push(Case::new(format!("{whose}: {name}"), token, verdict));
    };
    let header = |members: Members| members.text();
    let turned = header(holder.members().with("x", "1"));
    let impostor = Holder {
        key: holder.key.impostor(),
        jwk: holder.jwk.clone(),
        is_imported: holder.is_imported,
    };
    let text = good.text();
    add("good", holder.mint(&text), Refused(whole));
    add(
        "good again",
        holder.mint(good.clone().with("jti", "\"2\"").text()),
        Refused(whole),
    );
    let own = if holder.is_imported {
        whole
    } else {
        "malformed"
    };
    add(
        "a header of its own",
        holder.sign(&turned, &text),
        Refused(own),
    );
    let jwt = header(holder.members().with("typ", "\"JWT\""));
    let own = if holder.is_imported {
        whole
    } else {
        "bad_type"
    };
    add("typ JWT", holder.sign(jwt, &text), Refused(own));
    // Bad before the signature is looked at.
    for (name, members, reason) in [
        (
            "typ dpop+jwt",
            holder.members().with("typ", "\"dpop+jwt\""),
            "bad_type",
        ),
        ("no typ", holder.members().without("typ"), "bad_type"),
        (
            "alg none",
            holder.members().with("alg", "\"none\""),
            "alg_not_allowed",
        ),
        (
            "alg HS256",
            holder.members().with("alg", "\"HS256\""),
            "alg_not_allowed",
        ),
        ("no alg", holder.members().without("alg"), "malformed"),
        (
            "crit",
            holder.members().with("crit", "[\"exp\"]"),
            "malformed",
        ),
        (
            "an embedded key",
            holder.members().with("jwk", "{}"),
            "malformed",
        ),
        (
            "alg twice",
            holder.members().twice("alg", "\"none\""),
            "malformed",
        ),
        (
            "kid in a list",
            holder
                .members()
                .with("kid", format!("[\"{}\"]", holder.key.kid)),
            "malformed",
        ),
        (
            "kid with a blank",
            holder
                .members()
                .with("kid", format!("\"{} \"", holder.key.kid)),
            "unknown_key",
        ),
    ] {
        add(name, holder.sign(members.text(), &text), Refused(reason));
    }
    for alg in Algorithm::ALL
        .into_iter()
        .filter(|alg| *alg != holder.key.alg)
    {
        let members = holder.members().with("alg", format!("\"{alg}\""));
        add(
            &format!("alg {alg}"),
            holder.sign(members.text(), &text),
            Refused("alg_not_allowed"),
        );
    }
    // Signed by somebody else.
    let token = holder.mint(&text);
    let (message, signature) = token.rsplit_once('.').expect("three parts");
    let zeros = encode(vec![0; holder.key.signature(b"").len()]);
    add("another's signature", impostor.mint(&text), Refused(forged));
    add(
        "another's signature, a header of its own",
        impostor.sign(&turned, &text),
        Refused(forged),
    );
    add("no signature", format!("{message}."), Refused(forged));
    add(
        "a signature of zeros",
        format!("{message}.{zeros}"),
        Refused(forged),
    );
    add(
        "a short signature",
        format!("{message}.{}", &signature[..signature.len() / 8 * 4]),
        Refused(forged),
    );
    let root = encode(good.clone().with("sub", "\"root\"").text());
    let head = encode(holder.header());
    add(
        "another payload",
        format!("{head}.{root}.{signature}"),
        Refused(forged),
    );
    add(
        "a padded signature",
        format!("{token}="),
        Refused("malformed"),
    );
    add("four parts", format!("{token}.AA"), Refused("malformed"));
    // Signed, and bad all the same.
    for (name, claims, reason) in [
        (
            "expired",
            good.clone().with("exp", (now - 60).to_string()),
            "expired",
        ),
        (
            "not yet valid",
            good.clone().with("nbf", (now + 120).to_string()),
            "not_yet_valid",
        ),
        (
            "a foreign issuer",
            good.clone().with("iss", "\"https://x\""),
            "bad_issuer",
        ),
        (
            "a foreign audience",
            good.clone().with("aud", "\"x\""),
            "bad_audience",
        ),
        (
            "too long a life",
            good.clone().with("exp", (now + 9000).to_string()),
            "claim_rule",
        ),
        (
            "no scope",
            good.clone().without("scope"),
            "insufficient_scope",
        ),
    ] {
        add(name, holder.mint(claims.text()), breaks(reason));
    }
    for (name, claims, reason) in [
        (
            "exp as text",
            good.clone().with("exp", "\"x\""),
            "malformed",
        ),
        (
            "iat as a float",
            good.clone().with("iat", "1.5"),
            "malformed",
        ),
        ("no sub", good.clone().without("sub"), "malformed"),
        ("sub twice", good.clone().twice("sub", "\"x\""), "malformed"),
        (
            "sub unprintable",
            good.with("sub", r#""a\nb""#),
            "claim_rule",
        ),
    ] {
        add(name, holder.mint(claims.text()), Refused(reason));
    }
    add(
        "a payload that is a list",
        holder.mint("[]"),
        Refused("malformed"),
    );
    cases
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purged_key_names_the_reason_that_would_have_been() {
    for algorithm in Algorithm::ALL {
        let house = House::new(algorithm).await;
        house.gateway.purge().await;
        let holders = [&house.ours, house.former(algorithm)];
        let breaks = |reason| match reason {
            "insufficient_scope" => Lacks("read write"),
            other => Refused(other),
        };
        for holder in holders {
            let cases = defects(&house, holder, "key_purged", "bad_signature", breaks);
            run(&house, &cases).await;
        }
        // Nobody honest signs with it an hour later; whoever dates back is not told apart.
        house.gateway.clock.advance(Duration::from_secs(1200));
        for holder in holders {
            let cases = [
                ("signed since", house.claims(), "compromised_key_in_use"),
                (
                    "signed since, dated back",
                    house.claims().with("iat", (house.now() - 1500).to_string()),
                    "key_purged",
                ),
                (
                    "signed since, foreign",
                    house.claims().with("iss", "\"https://x\""),
                    "bad_issuer",
                ),
            ]
            .map(|(name, claims, reason)| {
                let name = format!("{}: {name}", holder.name());
                Case::new(name, holder.mint(claims.text()), Refused(reason))
            });
            run(&house, &cases).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_key_is_unknown_but_for_tokens_that_outlived_it() {
    for algorithm in Algorithm::ALL {
        let house = House::new(algorithm).await;
        house.gateway.clock.advance(Duration::from_secs(601));
        assert_eq!(house.gateway.rotate().await["changed"], json!(true));
        house.gateway.clock.advance(Duration::from_secs(3600 + 66));
        house.gateway.lifecycle.tick().await.expect("a tick");
        let breaks = |reason| match reason {
            "expired" => Refused("unknown_key"),
            _ => Refused("lifecycle_violation"),
        };
        for holder in [&house.ours, house.former(algorithm)] {
            let cases = defects(&house, holder, "lifecycle_violation", "unknown_key", breaks);
            run(&house, &cases).await;
        }
    }
}

/// A signature under a key of small order is anybody's: no such key is let in.
#[tokio::test(flavor = "multi_thread")]
async fn an_ed25519_key_of_small_order_is_not_imported() {
    let house = House::new(Algorithm::EdDsa).await;
    for point in small_order() {
        let body = json!({
            "public_jwk": { "kty": "OKP", "crv": "Ed25519", "x": encode(point) },
            "kid": "anybody", "max_ttl": "1h",
        });
        let (status, problem) = house
            .gateway
            .admin_post("/admin/v1/keys/import", body)
            .await;
        assert_eq!(
            (status, &problem["code"]),
            (400, &json!("BAD_BODY")),
            "{problem}"
        );
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains("small order"), "{detail}");
    }
}
