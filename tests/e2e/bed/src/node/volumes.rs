//! A Pod's volumes: directories of the bed, filled from the API server.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::{
    ConfigMapProjection, DownwardAPIVolumeFile, KeyToPath, Pod, SecretProjection, Volume, VolumeProjection,
};

use super::{
    context::{PodContext, container_named},
    fields,
    files::{self, File},
    objects::Data,
    storage,
};

const DEFAULT_MODE: u32 = 0o644;

/// Makes every volume of the Pod, or brings those that follow objects of the API server up to date. Nothing
/// is touched that is as it should be.
///
/// # Errors
/// When an object that a volume needs does not exist (yet), or a directory cannot be made.
pub(super) async fn prepare(context: &PodContext) -> Result<()> {
    let pod = context.pod();
    for volume in volumes(&pod) {
        fill(context, &pod, volume)
            .await
            .with_context(|| format!("MountVolume.SetUp failed for volume {:?}", volume.name))?;
    }
    Ok(())
}

/// Names of volumes whose type the bed does not have: their containers see an empty directory.
pub(super) fn unsupported(pod: &Pod) -> Vec<&str> {
    volumes(pod).iter().filter(|volume| !is_supported(volume)).map(|volume| volume.name.as_str()).collect()
}

/// The directory that stands for a volume.
pub(super) fn path(context: &PodContext, pod: &Pod, volume: &Volume) -> PathBuf {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(claim) = &volume.persistent_volume_claim {
        return storage::directory(&context.settings.bed_dir, namespace, &claim.claim_name);
    }
    if volume.ephemeral.is_some() {
        // The controller manager names the claim so.
        let claim = format!("{}-{}", pod.metadata.name.as_deref().unwrap_or_default(), volume.name);
        return storage::directory(&context.settings.bed_dir, namespace, &claim);
    }
    let host = volume.host_path.as_ref().map(|host| PathBuf::from(&host.path)).filter(|path| path.exists());
    host.unwrap_or_else(|| context.dir.join("volumes").join(&volume.name))
}

/// Whether containers may write to a volume: only to what belongs to the Pod.
pub(super) fn is_writable(volume: &Volume) -> bool {
    !(has_files(volume) || volume.host_path.is_some())
}

fn volumes(pod: &Pod) -> &[Volume] {
    pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default()
}

fn has_files(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}

fn is_supported(volume: &Volume) -> bool {
    let claimed = volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some();
    has_files(volume) || claimed || volume.empty_dir.is_some() || volume.host_path.is_some()
}

async fn fill(context: &PodContext, pod: &Pod, volume: &Volume) -> Result<()> {
    let directory = path(context, pod, volume);
    let group = fs_group(pod);
    if !has_files(volume) {
        if !directory.exists() {
            files::make_shared(&directory, group)?;
        }
        return Ok(());
    }
    let files = files_of(context, pod, volume).await?;
    files::write(&directory, &files, group)?;
    Ok(())
}

fn fs_group(pod: &Pod) -> Option<u32> {
    let group = pod.spec.as_ref()?.security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

async fn files_of(context: &PodContext, pod: &Pod, volume: &Volume) -> Result<Vec<File>> {
    if let Some(source) = &volume.config_map {
        let data = context.objects.config_map(&source.name, source.optional).await?;
        return choose(data, source.items.as_deref(), source.optional, mode(source.default_mode));
    }
    if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        let data = context.objects.secret(name, source.optional).await?;
        return choose(data, source.items.as_deref(), source.optional, mode(source.default_mode));
    }
    if let Some(source) = &volume.downward_api {
        return downward(context, pod, source.items.as_deref(), mode(source.default_mode));
    }
    let mut files = Vec::new();
    if let Some(projected) = &volume.projected {
        for source in projected.sources.iter().flatten() {
            files.extend(project(context, pod, source, mode(projected.default_mode)).await?);
        }
    }
    Ok(files)
}

async fn project(context: &PodContext, pod: &Pod, source: &VolumeProjection, mode: u32) -> Result<Vec<File>> {
    if let Some(ConfigMapProjection { name, items, optional }) = &source.config_map {
        let data = context.objects.config_map(name, *optional).await?;
        return choose(data, items.as_deref(), *optional, mode);
    }
    if let Some(SecretProjection { name, items, optional }) = &source.secret {
        let data = context.objects.secret(name, *optional).await?;
        return choose(data, items.as_deref(), *optional, mode);
    }
    if let Some(source) = &source.downward_api {
        return downward(context, pod, source.items.as_deref(), mode);
    }
    if let Some(wanted) = &source.service_account_token {
        let token = context.tokens.get(&context.client, pod, wanted).await?;
        return Ok(vec![File { path: wanted.path.clone(), data: token.into_bytes(), mode }]);
    }
    bail!("a projection of this kind is not supported")
}

/// The files that `items` asks for, or one for each key.
fn choose(
    data: Option<Data>,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    default_mode: u32,
) -> Result<Vec<File>> {
    let Some(mut data) = data else { return Ok(Vec::new()) };
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(data.into_iter().map(|(path, data)| File { path, data, mode: default_mode }).collect());
    };
    let mut files = Vec::new();
    for item in items {
        match data.remove(&item.key) {
            Some(data) => {
                let mode = item.mode.map_or(default_mode, |own| mode(Some(own)));
                files.push(File { path: item.path.clone(), data, mode });
            }
            None if optional == Some(true) => {}
            None => bail!("references non-existent key {:?}", item.key),
        }
    }
    Ok(files)
}

fn downward(
    context: &PodContext,
    pod: &Pod,
    items: Option<&[DownwardAPIVolumeFile]>,
    default_mode: u32,
) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for item in items.unwrap_or_default() {
        let value = if let Some(selector) = &item.field_ref {
            fields::field(pod, context.ip, &selector.field_path)?
        } else if let Some(selector) = &item.resource_field_ref {
            let name = selector.container_name.as_deref().unwrap_or_default();
            let container = container_named(pod, name).context("resourceFieldRef names no container")?;
            fields::resource(container, selector)?
        } else {
            String::new()
        };
        let mode = item.mode.map_or(default_mode, |own| mode(Some(own)));
        files.push(File { path: item.path.clone(), data: value.into_bytes(), mode });
    }
    Ok(files)
}

fn mode(mode: Option<i32>) -> u32 {
    mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(DEFAULT_MODE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_choose_and_rename_keys() {
        let data = || Some(Data::from([("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())]));
        let item = |key: &str| KeyToPath { key: key.to_owned(), path: format!("x/{key}"), mode: Some(0o400) };
        let paths = |files: Vec<File>| files.into_iter().map(|f| (f.path, f.mode)).collect::<Vec<_>>();
        let all = choose(data(), None, None, 0o644).unwrap();
        assert_eq!(paths(all), [("a".to_owned(), 0o644), ("b".to_owned(), 0o644)]);
        let some = choose(data(), Some(&[item("b")]), None, 0o644).unwrap();
        assert_eq!(paths(some), [("x/b".to_owned(), 0o400)]);
        assert!(choose(data(), Some(&[item("c")]), None, 0o644).is_err());
        assert!(choose(data(), Some(&[item("c")]), Some(true), 0o644).unwrap().is_empty());
        assert!(choose(None, None, Some(true), 0o644).unwrap().is_empty());
    }
}
