//! Ways in which bytes are not one strict JSON object.

/// Every way, made out of the good object `good`.
pub(crate) fn broken(good: &str) -> Vec<(String, Vec<u8>)> {
    let open = good.strip_suffix('}').expect("an object");
    let rest = good.strip_prefix('{').expect("an object");
    let with = |member: &str| format!("{open},{member}}}");
    let deep = |open: &str, close: &str, depth: usize| {
        with(&format!(
            "\"z\":{}1{}",
            open.repeat(depth),
            close.repeat(depth)
        ))
    };
    let texts = [
        ("a blank", " ".to_owned()),
        ("null", "null".to_owned()),
        ("a boolean", "true".to_owned()),
        ("a number", "0".to_owned()),
        ("a string", "\"text\"".to_owned()),
        ("a string of an object", serde_json::json!(good).to_string()),
        ("an empty array", "[]".to_owned()),
        ("an object in an array", format!("[{good}]")),
        ("an empty object", "{}".to_owned()),
        ("no end", open.to_owned()),
        ("no beginning", rest.to_owned()),
        ("a letter after it", format!("{good}x")),
        ("a brace after it", format!("{good}}}")),
        ("a bracket after it", format!("{good}]")),
        ("a comma after it", format!("{good},")),
        ("a colon after it", format!("{good}:")),
        ("itself again", format!("{good}{good}")),
        ("itself on another line", format!("{good}\n{good}")),
        ("an empty object after it", format!("{good}{{}}")),
        ("a NUL after it", format!("{good}\0")),
        ("a NUL before it", format!("\0{good}")),
        ("a letter before it", format!("x{good}")),
        ("a protection prefix", format!(")]}}',\n{good}")),
        ("a byte order mark before it", format!("\u{feff}{good}")),
        ("a byte order mark after it", format!("{good}\u{feff}")),
        ("a form feed before it", format!("\x0c{good}")),
        ("a vertical tab before it", format!("\x0b{good}")),
        ("a no-break space before it", format!("\u{a0}{good}")),
        ("a line separator after it", format!("{good}\u{2028}")),
        ("an ideographic space", format!("\u{3000}{good}")),
        ("a comma before the end", format!("{open},}}")),
        ("a comma at the beginning", format!("{{,{rest}")),
        ("two commas", format!("{open},,\"z\":1}}")),
        ("a semicolon", format!("{open};\"z\":1}}")),
        ("a missing comma", format!("{open}\"z\":1}}")),
        ("single quotes", with("'z':1")),
        ("an unquoted name", with("z:1")),
        ("a number for a name", with("1:1")),
        ("null for a name", with("null:1")),
        ("no colon", with("\"z\" 1")),
        ("no value", with("\"z\":")),
        ("no name", with(":1")),
        ("only a name", with("\"z\"")),
        ("an equals sign", with("\"z\"=1")),
        ("a comment", format!("{open}/* */}}")),
        ("a line comment", format!("{good}// x")),
        ("a hash comment", format!("{good}# x")),
        ("NaN", with("\"z\":NaN")),
        ("Infinity", with("\"z\":Infinity")),
        ("minus Infinity", with("\"z\":-Infinity")),
        ("1e400", with("\"z\":1e400")),
        ("-1e400", with("\"z\":-1e400")),
        ("a leading zero", with("\"z\":01")),
        ("a plus sign", with("\"z\":+1")),
        ("a naked fraction", with("\"z\":.5")),
        ("a naked point", with("\"z\":1.")),
        ("a naked exponent", with("\"z\":1e")),
        ("a naked minus", with("\"z\":-")),
        ("two minus signs", with("\"z\":--1")),
        ("a hexadecimal number", with("\"z\":0x1")),
        ("an underscore in a number", with("\"z\":1_0")),
        ("undefined", with("\"z\":undefined")),
        ("True", with("\"z\":True")),
        ("nul", with("\"z\":nul")),
        ("an open string", with("\"z\":\"x")),
        ("a raw line feed in a string", with("\"z\":\"\n\"")),
        ("a raw carriage return", with("\"z\":\"\r\"")),
        ("a raw tab in a string", with("\"z\":\"\t\"")),
        ("a raw NUL in a string", with("\"z\":\"\0\"")),
        ("a raw unit separator", with("\"z\":\"\x1f\"")),
        ("a hexadecimal escape", with(r#""z":"\x41""#)),
        ("an octal escape", with(r#""z":"\101""#)),
        ("an escaped single quote", with(r#""z":"\'""#)),
        ("a short escape", with(r#""z":"\u12""#)),
        ("an escape in braces", with(r#""z":"\u{41}""#)),
        ("a long escape", with(r#""z":"\U00000041""#)),
        ("a lone high surrogate", with(r#""z":"\ud800""#)),
        ("a lone low surrogate", with(r#""z":"\udc00""#)),
        (
            "surrogates the wrong way round",
            with(r#""z":"\udc00\ud800""#),
        ),
        ("a high surrogate and a letter", with(r#""z":"\ud800A""#)),
        ("a name twice", with(r#""z":1,"z":1"#)),
        ("a name twice, once escaped", with(r#""z":1,"\u007a":1"#)),
        ("an empty name twice", with(r#""":1,"":2"#)),
        ("a name twice in a member", with(r#""z":{"a":1,"a":1}"#)),
        ("a name twice in a list", with(r#""z":[{"a":1,"a":1}]"#)),
        (
            "a name twice, deep down",
            with(r#""z":{"a":{"b":{"c":1,"c":2}}}"#),
        ),
        ("lists nested too deeply", deep("[", "]", 8)),
        ("objects nested too deeply", deep("{\"a\":", "}", 8)),
        ("a hundred lists", deep("[", "]", 100)),
        ("a thousand lists", deep("[", "]", 1000)),
        (
            "open lists to the brim",
            with(&format!("\"z\":{}", "[".repeat(4000))),
        ),
    ];
    let raw = |bytes: &[u8]| {
        [
            with("\"z\":\"").strip_suffix('}').expect("it").as_bytes(),
            bytes,
            b"\"}",
        ]
        .concat()
    };
    let wide = |order: fn(u16) -> [u8; 2]| good.encode_utf16().flat_map(order).collect::<Vec<u8>>();
    let bytes = [
        ("a byte that is no UTF-8", raw(b"\xff")),
        ("an overlong slash", raw(b"\xc0\xaf")),
        ("an overlong NUL", raw(b"\xc0\x80")),
        ("a three-byte overlong slash", raw(b"\xe0\x80\xaf")),
        ("a surrogate in UTF-8", raw(b"\xed\xa0\x80")),
        ("half a character", raw(b"\xe2\x82")),
        ("a lone continuation", raw(b"\x80")),
        ("beyond Unicode", raw(b"\xf4\x90\x80\x80")),
        ("Latin-1", raw(b"caf\xe9")),
        ("UTF-16, little end first", wide(u16::to_le_bytes)),
        ("UTF-16, big end first", wide(u16::to_be_bytes)),
        ("gzip", b"\x1f\x8b\x08\0\0\0\0\0".to_vec()),
        ("CBOR", b"\xa1\x63alg\x65ES256".to_vec()),
    ];
    texts
        .into_iter()
        .map(|(name, text)| (name.to_owned(), text.into_bytes()))
        .chain(
            bytes
                .into_iter()
                .map(|(name, bytes)| (name.to_owned(), bytes)),
        )
        .collect()
}
