//! Random changes of files, as a shell script. A script may be run again after an answer that was lost: it works once in a
//! container, and a later one waits for it.

use std::fmt::Write as _;

use super::super::rng::Rng;

/// Where a container notes what was done: memory, and no content.
const NOTES: &str = "/dev/shm";
/// Last line of the output.
const END: &str = "that is all";
const NAMES: [&str; 8] = ["a", "b b", "-c", "d.txt", "new\\nline", "e", "ü", "f/g"];

/// A script, and what it leaves in any case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    pub script: String,
    /// Quoted names.
    pub written: Vec<String>,
}

/// Marks a life of a workspace, before anything else is changed.
pub fn mark(life: &str) -> Changes {
    let (script, written) =
        (format!("mkdir -p marks && echo {life} >marks/{life}\n"), vec![format!("\"marks/{life}\"")]);
    Changes { script, written }
}

/// Some files are made, replaced, removed, linked, and given other modes.
pub fn changes(rng: &mut Rng, life: &str) -> Changes {
    let mut script = "mkdir -p work/f && cd work\n".to_owned();
    for _ in 0..rng.within(2..7) {
        let name = rng.pick(&NAMES).copied().unwrap_or("a");
        let path = format!("\"$(printf './{name}')\"");
        let line = match rng.below(10) {
            0 => format!("rm -rf {path}"),
            1 => format!("ln -sfn /etc/passwd {path}"),
            2 => format!("[ ! -f {path} ] || [ -L {path} ] || ln -f {path} linked"),
            3 => format!(
                "[ ! -f {path} ] || [ -L {path} ] || chmod {} {path}",
                if rng.chance(50) { "600" } else { "4755" }
            ),
            // Few bytes, many bytes, and what is longer than a part of an upload.
            4 => format!("rm -rf fill && filetree fill fill {} {}", rng.within(5..8), rng.below(1 << 20)),
            _ => format!(
                "rm -rf {path}; mkdir -p f; echo {life}-{} >{path}; head -c {} /dev/zero >>{path}",
                rng.below(1 << 30),
                rng.below(1 << 17)
            ),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(script, "{line}");
    }
    let _ = writeln!(script, "cd .. && echo {life} >done-{life}");
    Changes { script, written: vec![format!("\"done-{life}\"")] }
}

/// Makes a script run once in a container, whoever loses an answer.
pub fn once(name: &str, script: &str) -> String {
    let note = format!("{NOTES}/{name}");
    whole(&format!("if [ ! -e {note} ]; then\nset -e; cd /workspace\n{script}touch {note}\nfi"))
}

/// Lists all files once nothing of another script runs.
pub fn list() -> String {
    whole("filetree list /workspace || exit 1")
}

/// Alone in its container, and with a last line: kubectl ends with 0 also where the runtime died and nothing arrived.
fn whole(script: &str) -> String {
    format!("exec 9>{NOTES}/lock; flock 9\n{script}\necho {END}\n")
}

/// The output of a script that ran to its end; `None` if that did not arrive.
pub fn output(text: &str) -> Option<&str> {
    text.strip_suffix('\n')?.strip_suffix(END)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_without_its_last_line_is_none() {
        assert_eq!(output("a\nb\nthat is all\n"), Some("a\nb\n"));
        assert_eq!(output("that is all\n"), Some(""));
        assert_eq!((output(""), output("a\nb\n")), (None, None));
    }

    #[test]
    fn a_script_follows_from_the_seed_and_leaves_a_mark_of_its_life() {
        let of = |seed| changes(&mut Rng::new(seed, "w1"), "w1-3");
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
        assert_eq!(of(7).written, ["\"done-w1-3\""]);
        assert!(once("n", &of(7).script).contains(&of(7).script));
    }
}
