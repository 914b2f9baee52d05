//go:build break_early_expiry

package fault

const earlyExpiry = true
