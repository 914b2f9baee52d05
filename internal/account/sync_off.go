//go:build nosync

package account

const synchronous = "off"
