package store

import "golang.org/x/sys/windows"

// diskSpace returns what this user may still write to the volume of dir, and how large
// that is.
func diskSpace(dir string) (free, size int64, err error) {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, 0, err
	}
	var available, total uint64
	if err := windows.GetDiskFreeSpaceEx(path, &available, &total, nil); err != nil {
		return 0, 0, err
	}
	return int64(available), int64(total), nil
}

// syncDir does nothing: a folder cannot be synced, and NTFS keeps a journal of names.
func syncDir(string) error { return nil }
