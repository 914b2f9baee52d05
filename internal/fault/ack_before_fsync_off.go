//go:build !break_ack_before_fsync

package fault

const ackBeforeFsync = false
