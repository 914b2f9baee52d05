//go:build !break_forget_custody

package fault

const forgetCustody = false
