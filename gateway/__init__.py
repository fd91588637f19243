"""A multichannel outreach gateway for loan repayment reminders."""
