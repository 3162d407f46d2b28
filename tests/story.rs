//! The main job, told as a story through real listeners.

mod harness;

use harness::{Gateway, Options, kid};

#[tokio::test(flavor = "multi_thread")]
async fn rotate_breaks_nothing_and_purge_breaks_exactly_what_it_says() {
    let gateway = Gateway::start(Options::default()).await;
    let old = gateway.token().await;
    assert_eq!(gateway.status(&old).await, 200);

    let first = gateway.rotate().await;
    assert_eq!(first["changed"], true);
    let new = gateway.token().await;
    assert_ne!(kid(&old), kid(&new));
    assert_eq!(
        (gateway.status(&old).await, gateway.status(&new).await),
        (200, 200)
    );

    let jwks = gateway.jwks().await;
    let second = gateway.rotate().await;
    assert_eq!(second["changed"], false);
    for same in [
        "rotation_id",
        "keys",
        "at",
        "revision",
        "activated",
        "replaced",
    ] {
        assert_eq!(first[same], second[same], "{same}");
    }
    assert_eq!(gateway.jwks().await, jwks);

    let purge = gateway.purge().await;
    assert_eq!(purge["receipt"]["complete"], true);
    let last = gateway.token().await;
    for (token, status) in [(&old, 401), (&new, 401), (&old, 401), (&last, 200)] {
        assert_eq!(gateway.status(token).await, status);
    }
    let name = "portcullis_purge_verification_failures_total";
    assert_eq!(gateway.metric(name, &[("kid", &kid(&old))]).await, 2.0);
    assert_eq!(gateway.metric(name, &[("kid", &kid(&new))]).await, 1.0);
}
