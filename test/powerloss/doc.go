// Package powerloss tests what is left on a disk when the power goes: of a node's store,
// of an account's database, and of both programs at work. It holds tests alone.
//
// A child process writes onto an ext4 file system of its own, mounted from a file, and
// prints a line for each thing that it was promised to be durable. At a random moment the
// file system is shut down without its journal, as EXT4_IOC_SHUTDOWN does: what was not
// synced by then is gone, like the contents of memory. After that everything is killed,
// the file system is unmounted, mounted again, and everything promised must be there.
// Killing a process alone would prove nothing, since the page cache outlives it.
//
// What this cannot show: whether a disk keeps what it said it had synced. The file below
// the file system keeps all that reached it, whatever the order, so a program that
// relied on two writes reaching the disk in order without a sync between would be found
// only if one of them did not leave the page cache.
//
// The tests need root on Linux. In CI (CI=true) they fail where they cannot run;
// elsewhere they are skipped with the reason.
package powerloss
