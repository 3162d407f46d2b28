//! A copy of the store, changed as an attacker or a bad disk would: `serve` must refuse it, name
//! the file and the rule, and change nothing. Also: `serve` never mints keys where there are none.

use std::fs;
use std::path::Path;

use super::gateway::Finished;
use super::scratch::{copy_store, files_below};
use super::stage::Stage;
use super::story::problem;

const CONFIG: &str = "tampered.yaml";
const COPY: &str = "tampered/keys";
/// Single bits turned over, at places that the seed chooses.
const FLIPS: usize = 4;

impl Stage {
    /// On an empty directory `serve` ends with 3 and leaves it empty.
    pub(super) fn serve_without_keys(&mut self) -> Result<String, String> {
        let ended = self.binary.run(
            &self.scratch,
            &["serve", "--config", "portcullis.yaml"],
            &self.common.control,
        )?;
        let made: Vec<String> = ["data", "secrets"]
            .into_iter()
            .filter(|name| self.scratch.path(name).exists())
            .map(str::to_owned)
            .collect();
        let mut problems = problem(ended.code != Some(3), || {
            format!(
                "`serve` without a key set {}, instead of ending with 3",
                how(&ended)
            )
        });
        problems.extend(problem(!made.is_empty(), || {
            format!("`serve` without a key set made {}", made.join(" and "))
        }));
        let refused = problems.is_empty();
        self.board.judge(
            12,
            problems,
            "`serve` without a key set ended with 3 and made nothing",
        );
        if refused {
            Ok("exit 3, nothing made".to_owned())
        } else {
            Err("`serve` did not refuse".to_owned())
        }
    }

    pub(super) fn initialise(&mut self) -> Result<String, String> {
        let arguments = ["init", "--config", "portcullis.yaml"];
        let ended = self
            .binary
            .run(&self.scratch, &arguments, &self.common.control)?;
        if ended.code != Some(0) {
            return Err(format!("`init` {}", how(&ended)));
        }
        Ok("key set, secrets".to_owned())
    }

    pub(super) fn tamper(&mut self) -> Result<String, String> {
        let good =
            fs::read(self.scratch.key_set()).map_err(|error| format!("no key set: {error}"))?;
        self.scratch
            .write_config_of(CONFIG, COPY)
            .map_err(|failure| failure.to_string())?;
        let mut damages: Vec<(String, Option<Vec<u8>>)> = Vec::new();
        for _flip in 0..FLIPS {
            let (at, bit) = (self.rng.index(good.len()), self.rng.below(8));
            let mut bytes = good.clone();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << bit;
            }
            damages.push((format!("bit {bit} of byte {at} turned over"), Some(bytes)));
        }
        let half = good.get(..good.len() / 2).unwrap_or_default().to_vec();
        damages.push(("cut in half".to_owned(), Some(half)));
        damages.push((
            "an older generation put back".to_owned(),
            Some(self.old_key_set.clone()),
        ));
        damages.push(("missing".to_owned(), None));
        let mut refused = 0;
        for (what, bytes) in &damages {
            let problems = self.try_tampered(what, bytes.as_deref())?;
            refused += usize::from(problems.is_empty());
            for problem in problems {
                self.board.broken(7, problem.clone());
                self.board.broken(12, problem);
            }
        }
        let said = format!(
            "{refused} of {} damaged copies of the store refused, each by its rule",
            damages.len()
        );
        if refused == damages.len() {
            self.board.held(7, said.clone());
            self.board.held(12, said.clone());
        }
        Ok(said)
    }

    fn try_tampered(&self, what: &str, bytes: Option<&[u8]>) -> Result<Vec<String>, String> {
        let copy = self.scratch.path(COPY);
        let fail = |error: std::io::Error| format!("cannot copy the store: {error}");
        if copy.exists() {
            fs::remove_dir_all(&copy).map_err(fail)?;
        }
        copy_store(&self.scratch.store(), &copy).map_err(fail)?;
        let file = copy.join("keyset.json");
        match bytes {
            Some(bytes) => fs::write(&file, bytes).map_err(fail)?,
            None => fs::remove_file(&file).map_err(fail)?,
        }
        // Unfinished writes of a process that has ended may be cleared away.
        let unfinished =
            |path: &Path| path.ends_with("lock") || path.extension() == Some("tmp".as_ref());
        let content = || {
            let files = files_below(&copy).into_iter();
            files
                .filter(|(path, _)| !unfinished(path))
                .collect::<Vec<_>>()
        };
        let before = content();
        let arguments = ["serve", "--config", CONFIG];
        let ended = self
            .binary
            .run(&self.scratch, &arguments, &self.common.control)?;
        let mut problems = problem(ended.code != Some(3), || {
            format!(
                "with its key set {what}, `serve` {}, instead of ending with 3",
                how(&ended)
            )
        });
        problems.extend(problem(
            ended.code == Some(3) && !ended.stderr.contains("keyset.json"),
            || format!("with its key set {what}, `serve` does not say which file is wrong"),
        ));
        problems.extend(problem(content() != before, || {
            format!("with its key set {what}, `serve` changed the store")
        }));
        Ok(problems)
    }
}

/// How a command ended, in words.
pub(super) fn how(ended: &Finished) -> String {
    match ended.code {
        Some(code) => {
            let said = ended.stderr.trim();
            format!(
                "ended with {code}{}{said}",
                if said.is_empty() { "" } else { ": " }
            )
        }
        None => "served".to_owned(),
    }
}
