//! The digest of what is deployed.

use std::fs;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use aws_lc_rs::digest;

use crate::templates::Values;

/// The parameters of `template.yaml` that a deployment fills in: the outputs of the foundation, the
/// layer of the database's certificate, and the release.
pub(crate) const FILLED_IN: [&str; 7] = [
    "DatabaseCaLayerArn",
    "DatabaseHost",
    "DatabaseSecurityGroupId",
    "OwnerSecretArn",
    "Release",
    "SubnetIds",
    "VpcId",
];

/// Adds the digest of the code and of all settings, by which SAM names the versions of functions: a
/// version keeps its environment, so another setting needs another version.
pub(crate) fn with_release(mut settings: Values, code: &str) -> Values {
    settings.remove("Release");
    let mut digest = digest::Context::new(&digest::SHA256);
    for text in [code].into_iter().chain(settings.iter().flat_map(|(name, value)| [&**name, value]))
    {
        digest.update(&text.len().to_be_bytes());
        digest.update(text.as_bytes());
    }
    settings.insert("Release".to_owned(), hex::encode(digest.finish()));
    settings
}

/// The digest of the built functions and of the template: with the settings, all that a deployment
/// is made of.
pub(super) fn code(root: &Path, names: &[String]) -> Result<String> {
    let mut digest = digest::Context::new(&digest::SHA256);
    digest.update(&fs::read(root.join("template.yaml"))?);
    for name in names {
        let program = program(root, name);
        let bytes = fs::read(&program).with_context(|| format!("no {}", program.display()))?;
        digest.update(digest::digest(&digest::SHA256, &bytes).as_ref());
    }
    Ok(hex::encode(digest.finish()))
}

/// Where SAM puts a built function: in the folder of its resource, `DeviceTier` for `device-tier`.
pub(super) fn program(root: &Path, name: &str) -> std::path::PathBuf {
    let resource: String =
        name.split('-').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
    root.join(".aws-sam/build").join(resource).join("bootstrap")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_setting_or_other_code_is_another_release_and_the_same_is_the_same() {
        let release = |name: &str, value: &str, code: &str| {
            let settings = [(name.to_owned(), value.to_owned())].into();
            with_release(with_release(settings, code), code)["Release"].clone()
        };
        let one = release("Size", "small", "code");
        assert_eq!(one, release("Size", "small", "code"));
        assert_ne!(one, release("Size", "large", "code"));
        assert_ne!(one, release("Size", "small", "other"));
        assert_ne!(one, release("Sizes", "mall", "code"), "names and values do not run together");
    }
}
