-- Numbers of letters by outcome, written when the replay ends. Consoles list replays every few seconds, and counting reads
-- each letter of each replay. They stay true when letters are pruned. Null: the replay has not ended, or an instance of an
-- earlier release has ended it.
alter table dead_letter_replay add column outcomes jsonb;
