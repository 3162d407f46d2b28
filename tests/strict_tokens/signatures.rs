//! Signatures that look right: lengths, forms, ranges and the algebra of each algorithm.

use portcullis::keys::{Algorithm, PublicJwk};
use ring::digest::{SHA256, digest};

use crate::cases::{Case, Verdict};
use crate::harness::forge::encode;
use crate::holder::{Holder, House};

use Verdict::{Accepted, Refused};

/// The order of P-256, big end first.
const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// The order of the base point of Ed25519, little end first (RFC 8032 §5.1).
const ED25519_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

pub(crate) fn hostile(house: &House, holder: &Holder) -> Vec<Case> {
    let (message, signature) = signed(house, holder);
    let mut forms = common(holder, &message, &signature);
    forms.extend(match holder.key.alg {
        Algorithm::Es256 => ecdsa(holder, &message, &signature),
        Algorithm::EdDsa => ed25519(&signature),
        Algorithm::Rs256 => rsa(holder, &signature),
    });
    forms
        .into_iter()
        .filter(|(_, forged)| *forged != signature)
        .map(|(name, forged)| {
            let token = format!("{message}.{}", encode(forged));
            Case::new(
                format!("signature: {name}"),
                token,
                Refused("bad_signature"),
            )
        })
        .collect()
}

/// ECDSA has two signatures for every one: the second is as good in mathematics, and the texts of a
/// token are no identity here.
pub(crate) fn twin(house: &House, holder: &Holder) -> Option<Case> {
    let (message, signature) = signed(house, holder);
    (holder.key.alg == Algorithm::Es256).then(|| {
        let (r, s) = signature.split_at(32);
        let twin = [r, &subtract(&P256_ORDER, s)].concat();
        let token = format!("{message}.{}", encode(twin));
        Case::new("signature: (r, n - s)", token, Accepted)
    })
}

fn signed(house: &House, holder: &Holder) -> (String, Vec<u8>) {
    let message = format!(
        "{}.{}",
        encode(holder.header()),
        encode(house.claims().text())
    );
    let signature = holder.key.signature(message.as_bytes());
    (message, signature)
}

type Form = (String, Vec<u8>);

fn common(holder: &Holder, message: &str, good: &[u8]) -> Vec<Form> {
    let length = good.len();
    let mut reversed = good.to_vec();
    reversed.reverse();
    let mut forms: Vec<Form> = [
        ("nothing", Vec::new()),
        ("one zero", vec![0]),
        ("all zero", vec![0; length]),
        ("all one", vec![0xff; length]),
        ("one", [vec![0; length - 1], vec![1]].concat()),
        ("the first byte missing", good[1..].to_vec()),
        ("the last byte missing", good[..length - 1].to_vec()),
        ("the first half", good[..length / 2].to_vec()),
        ("the second half", good[length / 2..].to_vec()),
        ("a zero before it", [&[0], good].concat()),
        ("a zero after it", [good, &[0]].concat()),
        ("itself again", [good, good].concat()),
        ("backwards", reversed),
        (
            "halves changed",
            [&good[length / 2..], &good[..length / 2]].concat(),
        ),
        (
            "of the digest",
            holder
                .key
                .signature(digest(&SHA256, message.as_bytes()).as_ref()),
        ),
        ("of nothing", holder.key.signature(b"")),
        (
            "of the text with a line feed",
            holder.key.signature(format!("{message}\n").as_bytes()),
        ),
        (
            "of the text with a dot",
            holder.key.signature(format!("{message}.").as_bytes()),
        ),
        ("of the header", {
            let (header, _) = message.split_once('.').expect("two parts");
            holder.key.signature(header.as_bytes())
        }),
        ("of the payload", {
            let (_, payload) = message.split_once('.').expect("two parts");
            holder.key.signature(payload.as_bytes())
        }),
        (
            "the digest itself",
            digest(&SHA256, message.as_bytes()).as_ref().to_vec(),
        ),
        ("much too long", vec![7; 2048]),
    ]
    .into_iter()
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .collect();
    for at in [0, 1, length / 2 - 1, length / 2, length - 2, length - 1] {
        for bit in [0x01, 0x80] {
            let mut flipped = good.to_vec();
            flipped[at] ^= bit;
            forms.push((format!("bit {bit:#04x} of byte {at} turned"), flipped));
        }
    }
    forms
}

fn ecdsa(holder: &Holder, message: &str, good: &[u8]) -> Vec<Form> {
    let (r, s) = good.split_at(32);
    let zero = [0; 32];
    let mut one = [0; 32];
    one[31] = 1;
    let less = subtract(&P256_ORDER, &one);
    let mut more = P256_ORDER;
    more[31] += 1;
    let values: [(&str, &[u8]); 6] = [
        ("0", &zero),
        ("1", &one),
        ("n - 1", &less),
        ("n", &P256_ORDER),
        ("n + 1", &more),
        ("2^256 - 1", &[0xff; 32]),
    ];
    let mut forms = Vec::new();
    for (r_name, r_value) in values {
        for (s_name, s_value) in values {
            forms.push((
                format!("r = {r_name}, s = {s_name}"),
                [r_value, s_value].concat(),
            ));
        }
        forms.push((format!("r = {r_name}"), [r_value, s].concat()));
        forms.push((format!("s = {r_name}"), [r, r_value].concat()));
    }
    let der = holder.key.der_signature(message.as_bytes());
    let swap = |half: &[u8]| half.iter().rev().copied().collect::<Vec<u8>>();
    let mut fitted = der.clone();
    fitted.resize(64, 0);
    forms.extend([
        ("DER".to_owned(), der.clone()),
        ("DER cut to length".to_owned(), fitted),
        (
            "the last 64 bytes of DER".to_owned(),
            der[der.len() - 64..].to_vec(),
        ),
        (
            "each half little end first".to_owned(),
            [swap(r), swap(s)].concat(),
        ),
        (
            "(n - r, s)".to_owned(),
            [&subtract(&P256_ORDER, r)[..], s].concat(),
        ),
        ("(r, r)".to_owned(), [r, r].concat()),
        ("(s, s)".to_owned(), [s, s].concat()),
        ("halves of 33 bytes".to_owned(), [&[0], r, &[0], s].concat()),
        ("with the point's tag".to_owned(), [&[4], good].concat()),
        (
            "the public point".to_owned(),
            match &holder.jwk {
                PublicJwk::Ec { x, y, .. } => [decode(x), decode(y)].concat(),
                PublicJwk::Okp { .. } | PublicJwk::Rsa { .. } => panic!("an EC key"),
            },
        ),
    ]);
    forms
}

fn ed25519(good: &[u8]) -> Vec<Form> {
    let (r, s) = good.split_at(32);
    let zero = [0; 32];
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut forms = vec![
        ("S + L".to_owned(), [r, &add(s, &ED25519_ORDER)].concat()),
        (
            "S + 2 L".to_owned(),
            [r, &add(&add(s, &ED25519_ORDER), &ED25519_ORDER)].concat(),
        ),
        ("S = L".to_owned(), [r, &ED25519_ORDER].concat()),
        ("S = 0".to_owned(), [r, &zero].concat()),
        ("S = 1".to_owned(), [r, &identity].concat()),
        ("S = 2^256 - 1".to_owned(), [r, &[0xff; 32]].concat()),
        ("R = S".to_owned(), [s, s].concat()),
    ];
    for (n, point) in small_order().into_iter().enumerate() {
        forms.push((
            format!("R of small order {n}, S = 0"),
            [&point[..], &zero].concat(),
        ));
        forms.push((
            format!("R of small order {n}, S = L"),
            [&point[..], &ED25519_ORDER].concat(),
        ));
        forms.push((format!("R of small order {n}"), [&point[..], s].concat()));
    }
    forms
}

fn rsa(holder: &Holder, good: &[u8]) -> Vec<Form> {
    let PublicJwk::Rsa { n, .. } = &holder.jwk else {
        panic!("an RSA key");
    };
    let n = decode(n);
    let less = |by: u8| {
        let mut less = n.clone();
        let last = less.len() - 1;
        // A product of odd primes is odd.
        less[last] -= by;
        less
    };
    // What a broken verifier would find after "decrypting" with an exponent of one.
    let encoded = [&[0, 1][..], &vec![0xff; n.len() - 35], &[0], &[7; 32]].concat();
    vec![
        ("the modulus".to_owned(), n.clone()),
        ("the modulus less one".to_owned(), less(1)),
        ("n - s".to_owned(), subtract(&n, good)),
        ("n + s, one byte longer".to_owned(), {
            let mut longer = vec![0];
            longer.extend(&n);
            let mut reversed: Vec<u8> = longer.iter().rev().copied().collect();
            let mut summand: Vec<u8> = good.iter().rev().copied().collect();
            summand.push(0);
            reversed = add(&reversed, &summand);
            reversed.reverse();
            reversed
        }),
        ("the encoded message itself".to_owned(), encoded),
        ("two zeros before it".to_owned(), [&[0, 0], good].concat()),
        (
            "a zero before it, the end cut".to_owned(),
            [&[0], &good[..good.len() - 1]].concat(),
        ),
    ]
}

/// Every encoding of a point whose order divides eight, those included that RFC 8032 §5.1.3 forbids.
pub(crate) fn small_order() -> Vec<[u8; 32]> {
    [
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "JuiVj8KyJ7BFw_SJ8u-Y8NXfrAXTxjM5sTgCiG1T_AU",
        "xxdqcD1N2E-6PAt2DRBnDyogU_osOczGTsf9d5KsA3o",
        "7P_______________________________________38",
        "7f_______________________________________38",
        "7v_______________________________________38",
    ]
    .into_iter()
    .flat_map(|text| {
        let point: [u8; 32] = decode(text).try_into().expect("32 bytes");
        let mut negative = point;
        negative[31] |= 0x80;
        [point, negative]
    })
    .collect()
}

fn decode(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(text)
        .expect("base64url")
}

/// `a - b`, big end first.
fn subtract(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut difference = a.to_vec();
    let mut borrow = false;
    for (digit, less) in difference.iter_mut().zip(b).rev() {
        let (once, first) = digit.overflowing_sub(*less);
        let (twice, second) = once.overflowing_sub(u8::from(borrow));
        *digit = twice;
        borrow = first || second;
    }
    difference
}

/// `a + b`, little end first.
fn add(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut sum = a.to_vec();
    let mut carry = false;
    for (digit, more) in sum.iter_mut().zip(b) {
        let (once, first) = digit.overflowing_add(*more);
        let (twice, second) = once.overflowing_add(u8::from(carry));
        *digit = twice;
        carry = first || second;
    }
    sum
}
