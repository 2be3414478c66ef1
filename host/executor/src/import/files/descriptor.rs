//! Descriptors and directory streams of WASI 0.2: the engine's own functions, each behind its bound.

use wasmtime::component::Resource;
use wasmtime_wasi::{
    filesystem::Descriptor,
    p2::{
        DynInputStream, DynOutputStream, FsError, FsResult,
        bindings::filesystem::types::{
            Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream, ErrorCode,
            Filesize, Host, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags,
            PathFlags,
        },
    },
};

use super::{
    Files, MAX_WRITE_BYTES, check_path,
    entries::DirectoryEntries,
    streams::{bound_input, bound_output},
    with_threads,
};

/// Calls a function of the engine, whose blocking parts run on the threads of the handler.
macro_rules! wait {
    ($files:ident.$function:ident($($argument:expr),*)) => {{
        $files.state.under_way += 1;
        let answer = with_threads($files.threads(), HostDescriptor::$function(&mut $files.files, $($argument),*)).await;
        $files.state.under_way -= 1;
        answer
    }};
}

impl Host for Files<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        self.files.convert_error_code(error)
    }

    fn filesystem_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        self.files.filesystem_error_code(error)
    }
}

type Fd = Resource<Descriptor>;

impl HostDescriptor for Files<'_> {
    async fn advise(&mut self, fd: Fd, offset: Filesize, len: Filesize, advice: Advice) -> FsResult<()> {
        wait!(self.advise(fd, offset, len, advice))
    }

    async fn sync_data(&mut self, fd: Fd) -> FsResult<()> {
        wait!(self.sync_data(fd))
    }

    async fn get_flags(&mut self, fd: Fd) -> FsResult<DescriptorFlags> {
        wait!(self.get_flags(fd))
    }

    async fn get_type(&mut self, fd: Fd) -> FsResult<DescriptorType> {
        wait!(self.get_type(fd))
    }

    async fn set_size(&mut self, fd: Fd, size: Filesize) -> FsResult<()> {
        wait!(self.set_size(fd, size))
    }

    async fn set_times(&mut self, fd: Fd, accessed: NewTimestamp, modified: NewTimestamp) -> FsResult<()> {
        wait!(self.set_times(fd, accessed, modified))
    }

    async fn read(&mut self, fd: Fd, len: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)> {
        wait!(self.read(fd, len, offset))
    }

    async fn write(&mut self, fd: Fd, mut bytes: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        if bytes.len() > MAX_WRITE_BYTES {
            bytes.truncate(MAX_WRITE_BYTES);
            bytes.shrink_to_fit();
        }
        wait!(self.write(fd, bytes, offset))
    }

    async fn read_directory(&mut self, fd: Fd) -> FsResult<Resource<DirectoryEntryStream>> {
        let Descriptor::Dir(directory) = self.files.table.get(&fd)? else {
            return Err(ErrorCode::NotDirectory.into());
        };
        let directory = directory.dir.clone();
        let open = self.open()?;
        let Some(threads) = self.threads() else {
            return Err(ErrorCode::Unsupported.into());
        };
        let entries = DirectoryEntries::of(directory, &threads, open).await?;
        // The generated traits use the engine's type for entries, which only the engine can make.
        let entries = self.files.table.push(entries)?;
        Ok(Resource::new_own(entries.rep()))
    }

    async fn sync(&mut self, fd: Fd) -> FsResult<()> {
        wait!(self.sync(fd))
    }

    async fn create_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        check_path(&path)?;
        wait!(self.create_directory_at(fd, path))
    }

    async fn stat(&mut self, fd: Fd) -> FsResult<DescriptorStat> {
        wait!(self.stat(fd))
    }

    async fn stat_at(&mut self, fd: Fd, flags: PathFlags, path: String) -> FsResult<DescriptorStat> {
        check_path(&path)?;
        wait!(self.stat_at(fd, flags, path))
    }

    async fn set_times_at(
        &mut self,
        fd: Fd,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        check_path(&path)?;
        wait!(self.set_times_at(fd, flags, path, accessed, modified))
    }

    async fn link_at(&mut self, fd: Fd, flags: PathFlags, old: String, to: Fd, new: String) -> FsResult<()> {
        check_path(&old)?;
        check_path(&new)?;
        wait!(self.link_at(fd, flags, old, to, new))
    }

    async fn open_at(
        &mut self,
        fd: Fd,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Fd> {
        check_path(&path)?;
        let open = self.open()?;
        let opened = wait!(self.open_at(fd, path_flags, path, open_flags, flags))?;
        open.until_given_back();
        Ok(opened)
    }

    fn drop(&mut self, fd: Fd) -> wasmtime::Result<()> {
        let number = fd.rep();
        HostDescriptor::drop(&mut self.files, fd)?;
        self.state.granted.remove(&number);
        self.state.open.give_back();
        Ok(())
    }

    async fn readlink_at(&mut self, fd: Fd, path: String) -> FsResult<String> {
        check_path(&path)?;
        wait!(self.readlink_at(fd, path))
    }

    async fn remove_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        check_path(&path)?;
        wait!(self.remove_directory_at(fd, path))
    }

    async fn rename_at(&mut self, fd: Fd, old: String, to: Fd, new: String) -> FsResult<()> {
        check_path(&old)?;
        check_path(&new)?;
        wait!(self.rename_at(fd, old, to, new))
    }

    async fn symlink_at(&mut self, fd: Fd, target: String, path: String) -> FsResult<()> {
        check_path(&target)?;
        check_path(&path)?;
        wait!(self.symlink_at(fd, target, path))
    }

    async fn unlink_file_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        check_path(&path)?;
        wait!(self.unlink_file_at(fd, path))
    }

    fn read_via_stream(&mut self, fd: Fd, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        let threads = self.threads();
        let open = self.open()?;
        let stream = HostDescriptor::read_via_stream(&mut self.files, fd, offset)?;
        bound_input(self.files.table, stream, threads, open)
    }

    fn write_via_stream(&mut self, fd: Fd, offset: Filesize) -> FsResult<Resource<DynOutputStream>> {
        let threads = self.threads();
        let open = self.open()?;
        let stream = HostDescriptor::write_via_stream(&mut self.files, fd, offset)?;
        bound_output(self.files.table, stream, threads, open)
    }

    fn append_via_stream(&mut self, fd: Fd) -> FsResult<Resource<DynOutputStream>> {
        let threads = self.threads();
        let open = self.open()?;
        let stream = HostDescriptor::append_via_stream(&mut self.files, fd)?;
        bound_output(self.files.table, stream, threads, open)
    }

    async fn is_same_object(&mut self, a: Fd, b: Fd) -> wasmtime::Result<bool> {
        wait!(self.is_same_object(a, b))
    }

    async fn metadata_hash(&mut self, fd: Fd) -> FsResult<MetadataHashValue> {
        wait!(self.metadata_hash(fd))
    }

    async fn metadata_hash_at(&mut self, fd: Fd, flags: PathFlags, path: String) -> FsResult<MetadataHashValue> {
        check_path(&path)?;
        wait!(self.metadata_hash_at(fd, flags, path))
    }
}

impl HostDirectoryEntryStream for Files<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        let Some(threads) = self.threads() else {
            return Err(ErrorCode::Unsupported.into());
        };
        let entries = self
            .files
            .table
            .get_mut(&Resource::<DirectoryEntries>::new_own(stream.rep()))?;
        entries.next(&threads).await
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.files
            .table
            .delete(Resource::<DirectoryEntries>::new_own(stream.rep()))?;
        Ok(())
    }
}
