//! What is shipped beside the binary is valid and agrees with itself: compose file, image, scrape
//! configuration and alerts, judged by docker-compose and promtool themselves.

#![expect(clippy::panic, reason = "the helpers of a test fail by panicking")]

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "harness/peers.rs"]
mod peers;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_yaml::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn yaml(file: &str) -> Value {
    let mut value: Value =
        serde_yaml::from_str(&text(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    value
        .apply_merge()
        .unwrap_or_else(|error| panic!("{file}: {error}"));
    value
}

/// The strings of a list.
fn strings(list: &Value) -> Vec<String> {
    list.as_sequence()
        .unwrap_or_else(|| panic!("not a list: {list:?}"))
        .iter()
        .map(|item| {
            item.as_str()
                .unwrap_or_else(|| panic!("not a string: {item:?}"))
                .to_owned()
        })
        .collect()
}

fn last_field(address: &str) -> &str {
    address.rsplit(':').next().unwrap_or(address)
}

/// Runs a peer in the project's root; its output goes into the failure text. `None`: skipped.
fn run(name: &str, arguments: &[&str]) -> Option<String> {
    let program = peers::peer(name)?;
    let output = Command::new(&program)
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{name} {arguments:?}: {}\n{stdout}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
    );
    Some(stdout)
}

#[test]
fn docker_compose_accepts_the_file_and_knows_every_service() {
    let Some(shown) = run("docker-compose", &["--profile", "setup", "config"]) else {
        return;
    };
    let shown: Value = serde_yaml::from_str(&shown).unwrap();
    let services: BTreeSet<_> = shown["services"]
        .as_mapping()
        .unwrap()
        .keys()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(
        services,
        BTreeSet::from([
            "echo",
            "gateway",
            "grafana",
            "init",
            "load",
            "orders",
            "prometheus"
        ])
    );
}

#[test]
fn compose_runs_init_only_when_asked_to() {
    let compose = yaml("docker-compose.yml");
    assert_eq!(strings(&compose["services"]["init"]["profiles"]), ["setup"]);
    for (name, service) in compose["services"].as_mapping().unwrap() {
        let depends_on = service["depends_on"].as_sequence();
        assert!(
            depends_on.is_none_or(|list| !list.contains(&Value::from("init"))),
            "{name:?} pulls init in"
        );
    }
}

#[test]
fn compose_services_are_locked_down() {
    let compose = yaml("docker-compose.yml");
    for (name, service) in compose["services"].as_mapping().unwrap() {
        assert_eq!(service["read_only"], Value::from(true), "{name:?}");
        assert_eq!(strings(&service["cap_drop"]), ["ALL"], "{name:?}");
        assert_eq!(
            strings(&service["security_opt"]),
            ["no-new-privileges:true"],
            "{name:?}"
        );
        for right in ["privileged", "cap_add", "user", "pid", "devices"] {
            assert!(service.get(right).is_none(), "{name:?} sets {right}");
        }
    }
}

#[test]
fn compose_publishes_on_loopback_only_and_what_the_gateway_listens_on() {
    let compose = yaml("docker-compose.yml");
    let config = yaml("conf/compose.yaml");
    let services = &compose["services"];

    for (name, service) in services.as_mapping().unwrap() {
        for port in service.get("ports").map(strings).unwrap_or_default() {
            // The gateway speaks plain HTTP here, the token endpoint included.
            assert!(port.starts_with("127.0.0.1:"), "{name:?} publishes {port}");
        }
    }

    let published: BTreeSet<_> = strings(&services["gateway"]["ports"])
        .iter()
        .map(|port| last_field(port).to_owned())
        .collect();
    let listened: BTreeSet<_> = ["proxy", "admin", "metrics"]
        .iter()
        .map(|listener| {
            let address = config["listeners"][*listener]["address"].as_str().unwrap();
            assert!(address.starts_with("0.0.0.0:"), "{listener}: {address}");
            last_field(address).to_owned()
        })
        .collect();
    assert_eq!(published, listened);

    // What the issuer calls itself is where a caller on this machine finds it.
    let proxy = last_field(config["listeners"]["proxy"]["address"].as_str().unwrap());
    assert!(
        strings(&services["gateway"]["ports"]).contains(&format!("127.0.0.1:{proxy}:{proxy}")),
        "the issuer's port is published under another number"
    );
    assert_eq!(
        config["issuer"]["url"].as_str().unwrap(),
        format!("http://127.0.0.1:{proxy}")
    );

    for upstream in ["echo", "orders"] {
        let command = strings(&services[upstream]["command"]);
        let endpoints = strings(&config["upstreams"][upstream]["endpoints"]);
        assert_eq!(
            endpoints,
            [format!(
                "{upstream}:{}",
                last_field(command.last().unwrap())
            )]
        );
    }

    // The load calls the gateway as clients that it knows, on paths that routes take.
    let load = strings(&services["load"]["command"]);
    assert!(
        load.contains(&format!("--url=http://gateway:{proxy}")),
        "{load:?}"
    );
    let known: Vec<(&str, &str)> = config["clients"]
        .as_sequence()
        .unwrap()
        .iter()
        .filter_map(|client| {
            let hash = client["secret_hash_file"].as_str()?;
            Some((client["id"].as_str()?, hash))
        })
        .collect();
    let mut callers = 0;
    for word in &load {
        let Some((flag, value)) = word
            .strip_prefix("--")
            .and_then(|flag| flag.split_once('='))
        else {
            continue;
        };
        if ["client", "stubborn"].contains(&flag) {
            let (id, file) = value.split_once('=').unwrap();
            let hash = file.replace(".secret", ".hash");
            assert!(known.contains(&(id, hash.as_str())), "{word}");
            callers += 1;
        }
    }
    assert_eq!(callers, 3);

    // Grafana asks the Prometheus that is there, and both are published as the README says.
    let ports = |name: &str| strings(&services[name]["ports"]);
    assert_eq!(ports("prometheus"), ["127.0.0.1:9090:9090"]);
    assert_eq!(ports("grafana"), ["127.0.0.1:3000:3000"]);
    let asked = services["grafana"]["environment"]["PROMETHEUS_URL"].as_str();
    assert_eq!(asked, Some("http://prometheus:9090"));

    let expected = format!(
        "gateway:{}",
        last_field(config["listeners"]["metrics"]["address"].as_str().unwrap())
    );
    let targets = yaml("conf/prometheus-targets.compose.yml");
    assert_eq!(strings(&targets[0]["targets"]), [expected]);
}

#[test]
fn the_gateway_accepts_the_compose_configuration() {
    let file = root().join("conf/compose.yaml");
    let config = portcullis::config::Config::load(&file, &|_| None)
        .unwrap_or_else(|errors| panic!("{errors}"));
    // Only what the comments in the file explain.
    for warning in config.warnings() {
        assert!(warning.contains("`insecure: true`"), "{warning}");
    }
}

#[test]
fn compose_mounts_exist_and_keep_data_and_secrets_apart() {
    let compose = yaml("docker-compose.yml");
    let config = yaml("conf/compose.yaml");
    let declared = compose["volumes"].as_mapping().unwrap();

    for (name, service) in compose["services"].as_mapping().unwrap() {
        for mount in service.get("volumes").map(strings).unwrap_or_default() {
            let (source, target) = mount.split_once(':').unwrap();
            if source.starts_with('.') {
                assert!(
                    root().join(source).exists(),
                    "{name:?}: {source} is missing"
                );
                assert!(target.ends_with(":ro"), "{name:?}: {mount} is writable");
            } else {
                assert!(declared.contains_key(source), "{name:?}: {source}");
            }
        }
    }

    let gateway = &compose["services"]["gateway"];
    let init = &compose["services"]["init"];
    assert_eq!(gateway["volumes"], init["volumes"]);
    let mounts = strings(&gateway["volumes"]);
    let workdir = text("Dockerfile")
        .lines()
        .filter_map(|line| line.strip_prefix("WORKDIR "))
        .next_back()
        .map(PathBuf::from)
        .unwrap();
    let volume_of = |path: &Value| {
        let path = workdir.join(path.as_str().unwrap());
        mounts
            .iter()
            .filter_map(|mount| mount.split_once(':'))
            .find(|(_, target)| path.starts_with(target))
            .map(|(source, _)| source.to_owned())
            .unwrap_or_else(|| panic!("{} lies in no volume", path.display()))
    };
    assert_eq!(volume_of(&config["keys"]["store"]["file"]), "data");
    for secret in [
        &config["keys"]["encryption_key_files"][0],
        &config["listeners"]["admin"]["tokens"][0]["file"],
    ] {
        assert_eq!(volume_of(secret), "secrets");
    }
    // The load sees the secrets of clients, and none of the gateway's.
    for client in config["clients"].as_sequence().unwrap() {
        assert_eq!(volume_of(&client["secret_hash_file"]), "clients");
    }
    assert_eq!(
        strings(&compose["services"]["load"]["volumes"]),
        [format!("clients:{}/clients:ro", workdir.display())]
    );

    let named = text("Dockerfile")
        .lines()
        .filter_map(|line| line.strip_prefix("ENV PORTCULLIS_CONFIG="))
        .map(|path| format!("./conf/compose.yaml:{path}:ro"))
        .next()
        .expect("the image says where its configuration lies");
    assert!(mounts.contains(&named), "{mounts:?} lacks {named}");
}

#[test]
fn the_image_is_pinned_and_runs_as_a_numbered_user() {
    let dockerfile = text("Dockerfile");
    let last_stage: Vec<_> = dockerfile
        .split("\nFROM ")
        .last()
        .unwrap()
        .lines()
        .collect();
    let user = last_stage
        .iter()
        .filter_map(|line| line.strip_prefix("USER "))
        .next_back()
        .expect("the last stage names its user");
    let (uid, gid) = user.split_once(':').unwrap();
    assert!(uid.parse::<u32>().unwrap() > 0 && gid.parse::<u32>().unwrap() > 0);

    let toolchain = text("rust-toolchain.toml");
    let toolchain = toolchain.split('"').nth(1).unwrap();
    assert!(
        dockerfile.contains(&format!("FROM rust:{toolchain}-")),
        "the image is built with another toolchain than {toolchain}"
    );
    for service in ["prometheus", "grafana"] {
        let image = yaml("docker-compose.yml")["services"][service]["image"].clone();
        let version = last_field(image.as_str().unwrap()).trim_start_matches('v');
        let parts: Vec<_> = version.split('.').map(str::parse::<u32>).collect();
        assert!(
            parts.len() == 3 && parts.iter().all(Result::is_ok),
            "{image:?}"
        );
    }

    // What the builder copies has to get past .dockerignore, and keys must not.
    let allowed = text(".dockerignore");
    assert!(allowed.lines().any(|line| line == "*"));
    for path in ["Cargo.toml", "Cargo.lock", "benches", "src"] {
        assert!(allowed.lines().any(|line| line == format!("!{path}")));
    }
}

#[test]
fn promtool_accepts_the_scrape_configuration_and_the_rules() {
    if run("promtool", &["check", "config", "conf/prometheus.yml"]).is_some() {
        run("promtool", &["check", "rules", "conf/alerts.yml"]);
    }
    // Natively the metrics listener stands where the configuration puts it by default.
    assert_eq!(
        strings(&yaml("conf/prometheus-targets.yml")[0]["targets"]),
        ["localhost:9902"]
    );
}

#[test]
fn promtool_proves_every_alert() {
    const TESTS: [&str; 2] = ["conf/alerts_test.yml", "conf/alerts_start_test.yml"];
    for file in TESTS {
        run("promtool", &["test", "rules", file]);
    }

    let tests = TESTS.map(text).concat();
    let alerts = yaml("conf/alerts.yml");
    for group in alerts["groups"].as_sequence().unwrap() {
        for rule in group["rules"].as_sequence().unwrap() {
            let Some(name) = rule["alert"].as_str() else {
                assert!(rule["record"].is_string(), "{rule:?}");
                continue;
            };
            let firing = format!("alertname=\"{name}\",alertstate=\"firing\"");
            assert!(tests.contains(&firing), "{name} is never seen firing");
            let severity = rule["labels"]["severity"].as_str().unwrap();
            assert!(["critical", "warning"].contains(&severity), "{name}");
            for annotation in ["summary", "description"] {
                assert!(rule["annotations"][annotation].is_string(), "{name}");
            }
        }
    }
}

#[test]
fn the_stories_name_the_alert_that_fires_and_when() {
    // promtool_proves_every_alert shows that this is so.
    let said = "within a minute and a half PortcullisUpstreamDown";
    let proven = format!("'the story: {said}, after five PortcullisUpstreamUnreachable'");
    assert!(text("conf/alerts_start_test.yml").contains(&proven));
    for file in ["README.md", "scripts/observe", "docker-compose.yml"] {
        let text = text(file).replace('`', "").replace('#', " ");
        let words: Vec<_> = text.split_whitespace().collect();
        assert!(words.join(" ").contains(said), "{file}");
    }
    // How to bring it back, and that a gateway does not start without it.
    for file in ["README.md", "docker-compose.yml"] {
        let text = text(file);
        assert!(text.contains("docker-compose start orders"), "{file}");
        assert!(text.contains("exits with 2"), "{file}");
    }
}

#[test]
fn grafana_finds_what_it_is_provisioned_with() {
    let grafana = yaml("docker-compose.yml")["services"]["grafana"].clone();
    let mounts = strings(&grafana["volumes"]);
    // A path in the container, as the file that is mounted there.
    let here = |path: &str| {
        let mount = mounts.iter().find_map(|mount| {
            let (source, rest) = mount.split_once(':')?;
            let below = path.strip_prefix(rest.strip_suffix(":ro")?)?;
            Some(format!("{source}{below}"))
        });
        root().join(mount.unwrap_or_else(|| panic!("{path} is not mounted")))
    };
    let settings = &grafana["environment"];
    let provider = yaml("conf/grafana/provisioning/dashboards/portcullis.yml");
    let place = provider["providers"][0]["options"]["path"].as_str();
    let place = place.unwrap().strip_prefix('$').unwrap();
    let dashboards = here(settings[place].as_str().unwrap());
    let home = settings["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].as_str();
    assert!(here(home.unwrap()).is_file());
    assert_eq!(fs::read_dir(dashboards).unwrap().count(), 3);
    // Where the image looks for it.
    assert!(here("/etc/grafana/provisioning/datasources/prometheus.yml").is_file());
    let source = yaml("conf/grafana/provisioning/datasources/prometheus.yml");
    let url = source["datasources"][0]["url"].as_str().unwrap();
    let variable = url.strip_prefix('$').unwrap();
    assert!(settings[variable].is_string(), "{variable} is not set");
    // Without a login form nobody can be asked for a password that nobody chose.
    for (name, value) in [
        ("GF_AUTH_ANONYMOUS_ENABLED", "true"),
        ("GF_AUTH_ANONYMOUS_ORG_ROLE", "Viewer"),
        ("GF_AUTH_DISABLE_LOGIN_FORM", "true"),
        ("GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION", "true"),
    ] {
        assert_eq!(settings[name].as_str(), Some(value), "{name}");
    }
}
