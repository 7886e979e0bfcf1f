"""What takes hours: studies, cut into jobs that any machine may do in any order."""
