package backup

// PasswordLock is Password with another work factor.
var PasswordLock = passwordLock

const (
	MaxWorkFactor  = maxWorkFactor
	UnfinishedName = unfinishedName
)
