-- What a model could not embed, and why
--
-- The quarantine by model and reason, with an example of each. A null model: the source's record
-- could not be read.
SELECT model, reason, count(*) AS records, min(structure_id) AS example
FROM quarantine
GROUP BY model, reason
ORDER BY records DESC, model, reason;
