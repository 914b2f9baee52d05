//go:build break_double_accept

package fault

const doubleAccept = true
