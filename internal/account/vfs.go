package account

import (
	"encoding/binary"
	"encoding/hex"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/util/vfsutil"
	"github.com/ncruces/go-sqlite3/vfs"
	"github.com/ncruces/go-sqlite3/vfs/adiantum"
	cipher "lukechampine.com/adiantum"
	"lukechampine.com/adiantum/hbsh"
)

// vfsName is the VFS of account databases: that of package adiantum, but for the write-ahead
// log, see walFile.
const vfsName = "asmtp"

func init() {
	plain := vfs.Find("").(vfs.VFSFilename)
	vfs.Register(vfsName, &accountVFS{adiantum.Wrap(plain, nil).(vfs.VFSFilename), plain})
}

type accountVFS struct {
	vfs.VFSFilename // encrypts
	plain           vfs.VFSFilename
}

// OpenFilename implements vfs.VFSFilename.
func (v *accountVFS) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	if flags&vfs.OPEN_WAL != 0 {
		return v.openLog(name, flags)
	}
	f, out, err := v.VFSFilename.OpenFilename(name, flags)
	if err != nil || flags&vfs.OPEN_MAIN_DB == 0 {
		return f, out, err
	}
	return &dbFile{encryptedFile: f.(encryptedFile)}, out, nil
}

func (v *accountVFS) openLog(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	db, ok := vfsutil.UnwrapFile[*dbFile](name.DatabaseFile())
	if !ok || db.cipher == nil {
		return nil, flags, sqlite3.CANTOPEN
	}
	f, out, err := v.plain.OpenFilename(name, flags)
	if err != nil {
		return f, out, err
	}
	w := &walFile{File: f, cipher: db.cipher}
	if w.otherLayout() {
		f.Close()
		return nil, out, sqlite3.CANTOPEN
	}
	return w, out, nil
}

// encryptedFile is what the files of package adiantum can do.
type encryptedFile interface {
	vfs.FileUnwrap
	vfs.FileLockState
	vfs.FileChunkSize
	vfs.FileSizeHint
	vfs.FileHasMoved
	vfs.FileOverwrite
	vfs.FileSync
	vfs.FileCommitPhaseTwo
	vfs.FileBatchAtomicWrite
	vfs.FileCheckpoint
	vfs.FilePragma
	vfs.FileBusyHandler
	vfs.FileSharedMemory
}

// dbFile is a database file that knows its key, for the log.
type dbFile struct {
	encryptedFile
	cipher *hbsh.HBSH
}

// Pragma implements vfs.FilePragma.
func (f *dbFile) Pragma(name, value string) (string, error) {
	if name == "hexkey" {
		key, err := hex.DecodeString(value)
		if err != nil || len(key) != 32 {
			return "", sqlite3.IOERR_BADKEY
		}
		f.cipher = cipher.New(key)
	}
	return f.encryptedFile.Pragma(name, value)
}

// DeviceCharacteristics implements vfs.File. Only pages are written, and they are what is
// encrypted as a whole, so what stands beside them stays as it is. SQLite would else end
// every transaction in the log with a second copy of its last frame.
func (f *dbFile) DeviceCharacteristics() vfs.DeviceCharacteristic {
	return f.encryptedFile.DeviceCharacteristics() | vfs.IOCAP_POWERSAFE_OVERWRITE
}

// Unwrap implements vfs.FileUnwrap.
func (f *dbFile) Unwrap() vfs.File { return f.encryptedFile }

// tweakOf makes what is encrypted depend on its place, as package adiantum does.
func tweakOf(off int64) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(off)) }
