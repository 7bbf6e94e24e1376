//! Files of a volume, kept as its source says.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    io,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Component, Path},
};

/// One file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    /// Relative to the volume.
    pub(super) path: String,
    pub(super) data: Vec<u8>,
    pub(super) mode: u32,
}

/// Makes an empty volume that every user may write to, as an `emptyDir` is.
///
/// # Errors
/// When the file system refuses.
pub(super) fn make_shared(directory: &Path, group: Option<u32>) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    if group.is_some() {
        chown(directory, None, group)?;
    }
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    fs::set_permissions(directory, Permissions::from_mode(mode))
}

/// Makes `directory` hold exactly `files`; empty directories may be mount points and stay. A changed file is replaced by a rename, so that readers see the old
/// or the new content and watchers of the directory are told; an unchanged one is left alone.
///
/// # Errors
/// When the file system refuses, or a path leaves the directory.
pub(super) fn write(directory: &Path, files: &[File], group: Option<u32>) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    fs::set_permissions(directory, Permissions::from_mode(0o755))?;
    for file in files {
        write_one(directory, file, group)?;
    }
    let wanted: BTreeSet<&str> =
        files.iter().filter_map(|file| file.path.split('/').find(|part| !part.is_empty())).collect();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(|name| wanted.contains(name)) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn write_one(directory: &Path, file: &File, group: Option<u32>) -> io::Result<()> {
    let relative = Path::new(&file.path);
    if !relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("bad path {:?}", file.path)));
    }
    let path = directory.join(relative);
    if fs::read(&path).is_ok_and(|present| present == file.data) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let fresh = directory.join("..fresh");
    fs::write(&fresh, &file.data)?;
    // Kubernetes lets a Pod's fsGroup read every file of its volumes.
    let mode = if group.is_some() { file.mode | 0o440 } else { file.mode };
    chown(&fresh, None, group)?;
    fs::set_permissions(&fresh, Permissions::from_mode(mode))?;
    fs::rename(&fresh, &path)
}

fn remove(path: &Path) -> io::Result<()> {
    if !path.is_dir() {
        return fs::remove_file(path);
    }
    let is_empty = fs::read_dir(path)?.next().is_none();
    if is_empty { Ok(()) } else { fs::remove_dir_all(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, data: &str) -> File {
        File { path: path.to_owned(), data: data.as_bytes().to_vec(), mode: 0o640 }
    }

    #[test]
    fn a_directory_follows_its_files() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("volume");
        write(&root, &[file("a", "1"), file("sub/b", "2")], None).unwrap();
        assert_eq!(fs::read_to_string(root.join("sub/b")).unwrap(), "2");
        assert_eq!(fs::metadata(root.join("a")).unwrap().permissions().mode() & 0o777, 0o640);

        write(&root, &[file("a", "3")], None).unwrap();
        assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "3");
        assert!(!root.join("sub").exists());
        assert_eq!(fs::read_dir(&root).unwrap().count(), 1);

        assert!(write(&root, &[file("../x", "")], None).is_err());
    }
}
